"""The picture of calibration results: bytes, a description, and what can be drawn."""

import random
import warnings
from xml.etree import ElementTree

import matplotlib

from proxies.calibration_picture import TITLE, picture
from tests.calibration_factory import good_cases, good_coverage, hostile, make_case, paper_case

SVG = "{http://www.w3.org/2000/svg}"


def test_the_order_of_the_results_changes_no_byte() -> None:
    cases, coverage = [*good_cases(), paper_case("again")], good_coverage()
    svg = picture(cases, coverage)
    random.Random(0).shuffle(cases)
    random.Random(0).shuffle(coverage)
    assert picture(cases, coverage) == svg


def test_the_picture_is_the_same_twice_whatever_a_reader_set() -> None:
    svg = picture(good_cases(), good_coverage())
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "other", "axes.grid": True, "text.usetex": False}):
        assert picture(good_cases(), good_coverage()) == svg
        assert matplotlib.rcParams["font.size"] == 30
    assert b"dc:date" not in svg and str(matplotlib.__version__).encode() not in svg


def test_the_picture_is_xml_with_a_title_a_description_and_a_white_background() -> None:
    root = ElementTree.fromstring(picture(good_cases(), good_coverage()))
    assert root.findtext(f"{SVG}title") == TITLE
    description = root.findtext(f"{SVG}desc") or ""
    assert "crossfit_nce: estimate minus truth from -9.98 to +0.02 bits, cases: 30." in description
    assert "mine_paper, training maximum: estimate minus truth from +4.00 to +6.00 bits, cases: 2." in description
    assert "gaussian on sampler-2: 90 of 100" in description
    first = next(element for element in root.iter(f"{SVG}path") if "fill" in element.get("style", ""))
    assert "#ffffff" in first.get("style", "")


def test_what_was_not_measured_or_is_hostile_or_far_off_can_be_drawn() -> None:
    far = [paper_case(train_max=1e6, held_out=-1e6), make_case("gaussian", "x", truth=0.0, estimate=1e9)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cases, coverage in (([], []), (far, []), hostile()[:2], ([], good_coverage() * 3)):
            root = ElementTree.fromstring(picture(cases, coverage))
            assert root.findtext(f"{SVG}desc")
    description = ElementTree.fromstring(picture(far, [])).findtext(f"{SVG}desc") or ""
    assert "estimate minus truth from -1000005.00 to -1000005.00 bits" in description
