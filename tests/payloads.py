"""Text that somebody might put into a model's name to get out of the cell that it is shown in."""

BEACON = "http://evil.example/beacon.png"
"""Nothing may ever ask for this."""

PAYLOADS = (
    # HTML and SVG that runs a script; `hit` is what the tests look for
    "<script>window.hit=1</script>",
    "</script><script>window.hit=1</script>",
    "<!--<script>window.hit=1</script>-->",
    "<img src=x onerror=window.hit=1>",
    f"<img src={BEACON}>",
    "<svg onload=window.hit=1>",
    "<svg><script>window.hit=1</script></svg>",
    f"<iframe src={BEACON}></iframe>",
    "<iframe srcdoc='<script>top.hit=1</script>'></iframe>",
    f"<link rel=stylesheet href={BEACON}>",
    f"<meta http-equiv=refresh content='0;url={BEACON}'>",
    f"<base href={BEACON}>",
    f"<style>@import '{BEACON}';</style>",
    f"<object data={BEACON}></object>",
    "<details open ontoggle=window.hit=1>",
    "<a href='javascript:window.hit=1' autofocus onfocus=window.hit=1>x</a>",
    "</td></tr></table></section></main><h1>gone</h1>",
    "</textarea></title></style><b>bold</b>",
    "<template><script>window.hit=1</script></template>",
    # out of an attribute, out of JSON, out of a template
    '" onmouseover="window.hit=1" autofocus onfocus="window.hit=1',
    "' onmouseover='window.hit=1' x='",
    "`onmouseover=window.hit=1`",
    '","hit":"</script><script>window.hit=1</script>',
    "\\u003cscript\\u003ewindow.hit=1\\u003c/script\\u003e",
    "&lt;script&gt;window.hit=1&lt;/script&gt;",
    "${window.hit=1}{{window.hit=1}}<%= 1 %>",
    "\u2028window.hit=1\u2029",
    # links
    "javascript:window.hit=1",
    "[x](javascript:window.hit=1)",
    f"![x]({BEACON})",
    "//evil.example/path",
    "data:text/html,<script>window.hit=1</script>",
    "www.evil.example a@evil.example",
    # Markdown tables
    "a|b",
    "a\nb\r\n| c | d |",
    "`code` *star* _under_ ~~gone~~ # heading",
    # terminals: colour, a link, the title, the clipboard, a carriage return that overwrites the line
    "\x1b[31mred\x1b[0m",
    "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]0;title\x07\x1b]52;c;aGl0\x07",
    "safe\rhidden\x08\x9b2J",
    "[bold red]x[/bold red] [link=http://evil.example]y[/link]",
    # spreadsheets
    "=cmd|' /C calc'!A0",
    "+1+1@SUM(1)",
    # text that reads as something else: direction, nothing to see, half a character
    "\u202etxt.exe\u2066\u200b\ufeff",
    "\x00\ud83d nul and half a character",
)
