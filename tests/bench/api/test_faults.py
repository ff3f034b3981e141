"""What is sent, what is made of an answer, when a run goes on and when it ends; tests/faults has every fault."""

import time
from dataclasses import replace
from itertools import count

import pytest

from bench.api.budget import Budget
from bench.api.failures import ServiceError
from bench.api.replies import NoText, parsed
from bench.completions import Failure, Reply, Request
from tests.bench.api.questions import HURRIED, asked, completer, questions
from tests.bench.scripted_server import STATUS_FAULTS, ScriptedServer, always, at


def test_nothing_holds_a_question_longer_than_its_total() -> None:
    limits = replace(HURRIED, max_attempts=100, attempt_seconds=0.4, total_seconds=1.0, backoff_seconds=0.01)
    with ScriptedServer(faults=always("drip"), drip_seconds=0.01) as server:
        began = time.monotonic()
        (answer,) = asked(server, questions(1), limits=limits)
        assert time.monotonic() - began < 2.5
    assert isinstance(answer, Failure)
    assert answer.kind == "timeout"
    assert 2 <= answer.n_attempts <= 4


def test_a_server_that_is_not_there_is_a_failed_connection() -> None:
    with ScriptedServer() as server:
        pass
    (answer,) = asked(server, questions(1))
    assert isinstance(answer, Failure)
    assert (answer.kind, answer.n_attempts) == ("connection", 3)
    assert answer.message.startswith("no connection: ")


def test_a_success_between_keeps_the_run_going() -> None:
    numbers = {number for number in range(60) if number % 3}
    with ScriptedServer(faults=at(dict.fromkeys(numbers, "401"))) as server:
        answers = asked(server, questions(60), limits=replace(HURRIED, max_concurrency=1))
    assert sum(isinstance(answer, Failure) for answer in answers) == len(numbers)


def test_what_is_asked_for_is_what_is_sent() -> None:
    with ScriptedServer() as server:
        asked(server, questions(1))
        asked(server, questions(1, "chat"))
        asked(server, questions(1, "chat"), token_limit_parameter="max_completion_tokens", send_temperature=False)
    completion, chat, other = (one.body for one in server.received)
    assert completion == {"model": "m", "prompt": "question 0", "max_tokens": 5, "temperature": 0.0, "stop": ["\n"]}
    messages = [{"role": "user", "content": "question 0"}]
    assert chat == {"model": "m", "messages": messages, "max_tokens": 5, "temperature": 0.0}
    assert other == {"model": "m", "messages": messages, "max_completion_tokens": 5}
    assert [one.path for one in server.received] == ["/v1/completions", "/v1/chat/completions", "/v1/chat/completions"]


def test_questions_are_sent_in_order_and_no_more_at_a_time_than_allowed() -> None:
    with ScriptedServer(latency_seconds=0.02) as server:
        asked(server, questions(40), limits=replace(HURRIED, max_concurrency=3))
        order = [int(one.prompt.split()[1]) for one in server.received]
        assert server.connections_opened <= 3
    assert all(abs(index - place) < 3 for place, index in enumerate(order))


def test_a_reply_says_what_the_server_said_and_no_more() -> None:
    with ScriptedServer() as server:
        (plain,) = asked(server, questions(1))
    assert plain == Reply(
        text="0 noitseuq", finish_reason="stop", n_prompt_tokens=2, n_completion_tokens=2, returned_model="scripted-1"
    )
    nonsense = count(0)
    bad = [{"prompt_tokens": -1, "completion_tokens": 2}, {"prompt_tokens": True}, {"completion_tokens": "3"}, "many"]
    with ScriptedServer(usage=lambda *_: bad[next(nonsense)]) as server:  # type: ignore[return-value]
        for answer in asked(server, questions(4), limits=replace(HURRIED, max_concurrency=1)):
            assert isinstance(answer, Reply)
            assert (answer.n_prompt_tokens, answer.n_completion_tokens) == (None, None)
    with ScriptedServer(
        usage=lambda *_: None, extra={"unknown": [1], "choices": [{"text": "b", "index": 1}]}
    ) as server:
        (answer,) = asked(server, questions(1))
    assert isinstance(answer, Failure)
    assert "choices: none has index 0, got [1]" in answer.message


def test_a_refusal_is_no_answer_and_an_empty_answer_is_one() -> None:
    with ScriptedServer(faults=at({0: "refused", 1: "nothing-said"})) as server:
        refused, empty = asked(server, questions(2, "chat"), limits=replace(HURRIED, max_concurrency=1))
    assert isinstance(refused, Failure)
    assert (refused.kind, refused.n_attempts) == ("no text", 1)
    assert "refused to answer" in refused.message
    assert empty == Reply(text="", finish_reason="stop")


@pytest.mark.parametrize("said", ["m" * 100_000, "m" * 299 + "\n\x1b[31m" * 1000])
def test_labels_of_a_server_are_cut(said: str) -> None:
    choice = {"text": "a", "finish_reason": said}
    with ScriptedServer(extra={"model": said, "choices": [choice]}) as server:
        (answer,) = asked(server, questions(1))
    assert isinstance(answer, Reply)
    assert answer.returned_model == answer.finish_reason is not None
    assert answer.returned_model in ("m" * 300, "m" * 299)


def test_empty_labels_are_none() -> None:
    with ScriptedServer(extra={"model": "", "choices": [{"text": "a", "finish_reason": " "}]}) as server:
        (answer,) = asked(server, questions(1))
    assert answer == Reply(text="a", n_prompt_tokens=2, n_completion_tokens=2)


@pytest.mark.parametrize("fault", ["400", "429-ages"])
def test_a_message_is_short_whatever_a_server_sends(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    status, headers, _ = STATUS_FAULTS[fault]
    monkeypatch.setitem(STATUS_FAULTS, fault, (status, headers, {"message": "x" * 5000}))
    with ScriptedServer(faults=always(fault)) as server:
        (failure,) = asked(server, questions(1))
    assert isinstance(failure, Failure)
    assert 300 < len(failure.message) <= 400
    assert failure.message.endswith("xxx..." if fault == "400" else "that one question may take")


def test_a_prompt_that_no_request_can_carry_fails_by_itself() -> None:
    with ScriptedServer() as server:
        broken = Request(prompt="\ud800", mode="completion", max_tokens=5)
        failure, reply = asked(server, (broken, questions(1)[0]))
    assert isinstance(failure, Failure)
    assert failure.kind == "bad request"
    assert "surrogate" in failure.message
    assert isinstance(reply, Reply)


def test_a_long_wait_that_the_server_asks_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.api.asking.WORTH_A_REMARK_SECONDS", 1.0)
    remarks: list[str] = []
    with ScriptedServer(faults=at({0: "429-second", 1: "429-second"})) as server:
        answers = asked(server, questions(4), on_wait=remarks.append)
        times = [one.at for one in server.received]
    assert all(isinstance(answer, Reply) for answer in answers)
    assert remarks == ["status 429: Rate limit reached; waiting 1 s, as the server asks"]
    assert times[-1] - times[0] >= 1.0


def test_what_became_known_meanwhile_is_not_sent() -> None:
    known = Reply(text="known")
    with ScriptedServer() as server:
        asker = completer(server, look_again=lambda request: known if request.prompt.endswith(("1", "3")) else None)
        found = dict(asker.complete(questions(5)))
        assert sorted(one.prompt for one in server.received) == ["question 0", "question 2", "question 4"]
    assert found[1] == found[3] == known
    assert asker.budget.n_requests == 3


def test_an_error_of_our_own_ends_the_run_as_itself_and_reserves_nothing() -> None:
    def broken(*_: object) -> Reply:
        raise ServiceError("no look-up")

    for name in ("look_again", "keep"):
        budget = Budget(max_requests=100)
        with ScriptedServer() as server:
            with pytest.raises(ServiceError, match="^no look-up$"):
                list(completer(server, budget=budget, **{name: broken}).complete(questions(5)))
            assert budget.n_under_way == 0
            assert budget.n_requests >= len(server.received)


def test_what_keep_returns_is_what_counts() -> None:
    kept: list[Reply] = []

    def keep(request: Request, reply: Reply) -> Reply:
        kept.append(reply)
        return replace(reply, text=f"kept {request.prompt}")

    with ScriptedServer(faults=at({0: "500"})) as server:
        answers = asked(server, questions(3), keep=keep)
    assert [answer.text for answer in answers if isinstance(answer, Reply)] == [
        f"kept question {index}" for index in range(3)
    ]
    assert sorted(reply.text for reply in kept) == ["0 noitseuq", "1 noitseuq", "2 noitseuq"]


def test_failures_count_over_several_calls() -> None:
    with ScriptedServer(faults=always("401")) as server:
        asker = completer(server)
        assert len(list(asker.complete(questions(2)))) == 2
        with pytest.raises(ServiceError, match="3 questions in a row"):
            list(asker.complete(questions(1)))


def test_a_model_that_answered_before_is_not_given_up_for_questions_that_it_refuses() -> None:
    with ScriptedServer(faults=lambda number, _: None if number == 0 else "400") as server:
        asker = completer(server)
        assert isinstance(dict(asker.complete(questions(1)))[0], Reply)
        assert len(list(asker.complete(questions(30)))) == 30
    with ScriptedServer(faults=always("400")) as server:
        asker = completer(server)
        asker.note_answered()
        assert len(list(asker.complete(questions(30)))) == 30


def test_a_model_that_thought_until_its_tokens_were_used_up_has_not_answered() -> None:
    body = b'{"choices": [{"text": "", "message": {"content": ""}, "finish_reason": "length"}]}'
    with pytest.raises(NoText, match="a model that thinks before it answers needs a higher --max-tokens"):
        parsed(body, "chat")
    assert parsed(body, "completion").text == ""
