"""The controls of the page, in a real browser, on a server that plays a project with two local workers."""

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from pipeline.cli import main
from pipeline.core.access import AccessScope
from pipeline.paths import ProjectPaths
from pipeline.storage.token_store import TokenStore
from tests.harness.browser import chromium, opened
from tests.harness.control_server import ControlServer, control_server
from tests.harness.farm_project import FarmProject, games
from tests.harness.served_project import answer_of, served
from tests.harness.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

#: As it was before the page had controls.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
controls = partial(opened, has_plots=False)
TELEPHONE: dict[str, Any] = {"has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlServer]:
    """A server with a generation that is finished, one genome of which has failed."""
    project = FarmProject(tmp_path_factory.mktemp("controlled") / "farm")
    project.configure(workers=2)
    try:
        with control_server(project.root) as server:
            ask(server, "POST", "/generations", {"number": 1})
            submit(server, 1, {**games(2), "broken.json": {"do": "raise"}})
            ask(server, "POST", "/generations/1/close")
            assert eventually(lambda: state(server, 1) == "finished")
            yield server
    finally:
        project.close()


@pytest.fixture
def server(shared: ControlServer) -> Iterator[ControlServer]:
    """The same server; the generation that a test leaves open is stopped."""
    yield shared
    if (number := ask(shared, "GET", "/project")["open_generation"]) is not None:
        ask(shared, "POST", f"/generations/{number}/stop")


def ask(server: ControlServer, method: str, path: str, body: object = None) -> dict[str, Any]:
    """The answer to a request that is expected to succeed."""
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        headers = {"Authorization": f"Bearer {server.token}"}
        answer = client.request(method, f"{server.url}/v1{path}", headers=headers, json=body)
    assert answer.is_success, answer.text
    return dict(answer.json())


def submit(server: ControlServer, number: int, genomes: dict[str, Any]) -> None:
    submitted = [
        {"name": name, "content": b64encode(json.dumps(orders).encode()).decode()} for name, orders in genomes.items()
    ]
    ask(server, "POST", f"/generations/{number}/genomes", {"genomes": submitted})


def state(server: ControlServer, number: int) -> str:
    return str(ask(server, "GET", f"/generations/{number}")["state"])


def numbers(server: ControlServer) -> list[int]:
    """The generations."""
    return [int(each["number"]) for each in ask(server, "GET", "/generations")["items"]]


def open_generation(server: ControlServer) -> int:
    """Opens a generation of its own for a test."""
    number = numbers(server)[-1] + 1
    ask(server, "POST", "/generations", {"number": number})
    return number


def changes(server: ControlServer, token: str) -> list[str]:
    """What was asked for with a token, as the audit log has it."""
    lines = (server.root / "state/log/audit.jsonl").read_text("utf-8").splitlines()
    return [line["operation"] for line in map(json.loads, lines) if line["token"] == token]


def unlock(page: Page, token: str) -> None:
    page.get_by_role("button", name="Unlock …").click()
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Unlock", exact=True).click()


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


# -------------------------------------------------------------------------------------------------------- what it does


def test_generation_is_started_stopped_and_resumed(browser: Browser, server: ControlServer, tmp_path: Path) -> None:
    """The page shows the new generation at once, and what is played in it."""
    number, gate = numbers(server)[-1] + 1, tmp_path / "gate"
    with opened(browser, server.url) as page:
        unlock(page, server.token)
        press(page, "Open next generation")
        expect(page.get_by_role("status").get_by_text(f"Generation {number} is open.")).to_be_visible()
        expect(page.locator("#generation")).to_have_value(f"{number}")
        submit(server, number, {"slow.json": {"until": str(gate)}})
        expect(page.locator("#rows")).to_contain_text("slow.json", timeout=15_000)

        press(page, f"Stop generation {number}")
        press(page, "Stop")
        expect(page.locator("#done")).to_have_text(f"Generation {number} is stopped.")
        expect(page.locator("#state")).to_have_text("not finished; no host is running it", timeout=15_000)
        assert state(server, number) == "stopped"

        press(page, f"Open generation {number} again")
        expect(page.locator("#done")).to_have_text(f"Generation {number} is open again.")
        press(page, f"Close generation {number}")
        expect(page.locator("#situation")).to_contain_text("takes no more genomes")
        gate.touch()
        expect(page.locator("#situation")).to_have_text(f"Generation {number} is finished.", timeout=15_000)
        expect(page.locator("#tiles div", has_text="completed")).to_have_text("completed1", timeout=15_000)


def test_worker_is_drained_returned_and_restarted(browser: Browser, server: ControlServer, tmp_path: Path) -> None:
    """The one that is chosen in the list; the restart asks first, and its game is played again by the other one."""
    number, gate = numbers(server)[-1] + 1, tmp_path / "gate"
    with controls(browser, server.url) as page:
        unlock(page, server.token)
        press(page, "Open next generation")
        submit(server, number, {"slow.json": {"until": str(gate)}})
        expect(page.locator("#worker-state")).to_contain_text("slow.json", timeout=15_000)
        press(page, "Restart local-0")
        press(page, "Restart")
        expect(page.locator("#done")).to_have_text("local-0 will be restarted.")
        expect(page.locator("#worker-state")).not_to_contain_text("slow.json", timeout=15_000)

        page.get_by_label("Worker", exact=True).select_option("local-1")
        press(page, "Drain local-1")
        expect(page.locator("#done")).to_have_text("local-1 gets no more work, and finishes its game.")
        expect(page.locator("#worker-state")).to_contain_text("drain", timeout=15_000)
        press(page, "Return local-1")
        expect(page.locator("#done")).to_have_text("local-1 gets work again.")
        gate.touch()
        press(page, f"Close generation {number}")
        expect(page.locator("#situation")).to_have_text(f"Generation {number} is finished.", timeout=20_000)


def test_failed_genomes_are_played_again(browser: Browser, server: ControlServer) -> None:
    """Of the generation that is shown."""
    with controls(browser, server.url) as page:
        unlock(page, server.token)
        page.locator("#generation").select_option("1")
        press(page, "Play failed again")
        expect(page.locator("#refused")).to_be_empty()
        expect(page.locator("#situation")).to_have_text("Generation 1 is finished.", timeout=15_000)
        expect(page.get_by_role("button", name="Play failed again")).to_be_visible()
    attempts = ask(server, "GET", "/explain?what=broken.json&generation=1")["text"]
    assert attempts.count("failed") >= 4, attempts  # two attempts each time


def test_repeated_request_opens_no_second_generation(browser: Browser, server: ControlServer) -> None:
    """Neither if its answer was lost, nor by a double click."""
    known = numbers(server)
    with controls(browser, server.url, refusals="net::ERR_FAILED") as page:
        unlock(page, server.token)
        expect(page.get_by_role("button", name="Open next generation")).to_be_enabled()
        not_yet = ask(server, "GET", "/project")
        page.route("**/v1/project", lambda route: route.fulfill(json=not_yet))  # the page does not see what was opened
        page.route("**/v1/generations", lose_the_answer, times=1)
        press(page, "Open next generation")
        expect(page.locator("#refused")).to_contain_text("the server does not answer")

        page.get_by_role("button", name="Open next generation").dblclick()
        expect(page.locator("#done")).to_have_text(f"Generation {known[-1] + 1} is open.")
    assert numbers(server) == [*known, known[-1] + 1]


def lose_the_answer(route: Route) -> None:
    route.fetch()
    route.abort()


def test_refusal_of_the_server_is_shown(browser: Browser, server: ControlServer) -> None:
    """The line of its answer, as what another user has done meanwhile."""
    before = ask(server, "GET", "/project")
    with controls(browser, server.url, refusals="status of 409") as page:
        unlock(page, server.token)
        expect(page.get_by_role("button", name="Open next generation")).to_be_enabled()
        page.route("**/v1/project", lambda route: route.fulfill(json=before))
        number = open_generation(server)
        press(page, "Open next generation")
        alert = f"generation {number} is being played; close or stop it first"
        expect(page.locator("#refused")).to_have_text(alert)
        page.unroute("**/v1/project")
        press(page, f"Show generation {number}")
        expect(page.get_by_role("button", name=f"Stop generation {number}")).to_be_visible()


# ---------------------------------------------------------------------------------------------- keyboard and telephones


def test_controls_work_by_keyboard_alone(browser: Browser, server: ControlServer) -> None:
    """Each dialog returns the focus, and no button that goes away takes the focus with it."""
    number = open_generation(server)
    with controls(browser, server.url) as page:
        keys, focused = page.keyboard, page.locator(":focus")

        def tab_to(name: str) -> None:
            for _ in range(4):
                if focused.inner_text() == name:
                    return
                keys.press("Tab")
            raise AssertionError(f"Tab does not lead to {name} from here")

        page.locator("#generation").focus()
        tab_to("Unlock …")
        assert focused.evaluate("(one) => getComputedStyle(one).outlineStyle") == "solid"
        keys.press("Enter")
        expect(page.get_by_label("Token")).to_be_focused()
        keys.press("Escape")
        expect(page.get_by_role("button", name="Unlock …")).to_be_focused()
        keys.press("Space")
        keys.type(server.token)
        keys.press("Enter")
        expect(page.locator("#control-title")).to_be_focused()

        tab_to(f"Stop generation {number}")
        keys.press("Enter")
        expect(focused).to_have_text("Cancel")
        keys.press("Escape")
        expect(focused).to_have_text(f"Stop generation {number}")
        assert state(server, number) == "open"
        keys.press("Enter")
        tab_to("Stop")
        keys.press("Enter")
        expect(page.locator("#done")).to_have_text(f"Generation {number} is stopped.")
        expect(page.locator("#control-title")).to_be_focused()
        tab_to("Lock")
        keys.press("Enter")
        expect(page.get_by_role("button", name="Unlock …")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_controls_fit_a_telephone(browser: Browser, server: ControlServer, scheme: str) -> None:
    """Nothing is wider than the screen, and what a finger presses is 44 px high; colours can be told apart."""
    open_generation(server)
    with controls(browser, server.url, width=360, color_scheme=scheme, **TELEPHONE) as page:

        def check() -> None:
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            buttons = page.locator(".button:visible, dialog input:visible").all()
            assert len(buttons) >= 2
            for box in [button.bounding_box() for button in buttons]:
                assert box is not None and box["height"] >= 44 and box["x"] >= 0 and box["x"] + box["width"] <= 360
            for button in page.locator(".button:visible").all():
                assert contrast(button) >= 4.5, button.inner_text()

        page.get_by_role("button", name="Unlock …").click()
        check()
        page.get_by_label("Token").fill(server.token)
        press(page, "Unlock")
        page.get_by_role("button", name="Stop generation").click()
        check()


def contrast(button: Any) -> float:
    """Of its text and its background, by WCAG 2.2."""
    found: float = button.evaluate(
        """(one) => {
          const light = (text) => {
            const [r, g, b] = text.match(/[0-9.]+/g).map((n) => n / 255)
              .map((n) => (n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const style = getComputedStyle(one), both = [light(style.color), light(style.backgroundColor)];
          return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
        }"""
    )
    return found


# ------------------------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize(("scope", "lacks"), [("read", ["Close", "Stop"]), ("submit", ["Stop"])])
def test_smaller_scope_disables_what_it_does_not_allow(
    browser: Browser, server: ControlServer, scope: str, lacks: list[str]
) -> None:
    """With the reason; pressing such a button does nothing."""
    number = open_generation(server)
    known = changes(server, scope)
    with controls(browser, server.url) as page:
        unlock(page, server.tokens[scope])
        for verb in ("Close", "Stop"):
            button = page.get_by_role("button", name=f"{verb} generation {number}")
            if verb not in lacks:
                expect(button).to_be_enabled()
                continue
            expect(button).to_be_disabled()
            expect(button).to_have_accessible_description(
                f"The scope of this token is {scope}; the buttons that are off need control. "
                "Lock, and enter a token of “pipeline token make NAME --scope control”."
            )
            button.click(force=True)
            expect(page.locator("#question")).to_be_hidden()
    assert changes(server, scope) == known
    assert state(server, number) == "open"


def test_unusable_token_is_refused(browser: Browser, server: ControlServer) -> None:
    """One line says what to do; the tab keeps nothing of it."""
    store = TokenStore(ProjectPaths(server.root))
    expired = store.make("old", AccessScope.CONTROL, 1_700_000_000.0, 60.0)
    with controls(browser, server.url, refusals="status of 401") as page:
        page.get_by_role("button", name="Unlock …").click()
        for token, line in (
            ("wrong-one", "the token is wrong; `pipeline token list` shows which there are"),
            (expired, "the token old is expired; `pipeline token make` makes another"),
            ("tökén", "a token has only letters, digits, - and _; copy the whole line that was printed"),
        ):
            page.get_by_label("Token").fill(token)
            page.keyboard.press("Enter")
            expect(page.get_by_role("alert").get_by_text(line)).to_be_visible()
        press(page, "Cancel")
        assert page.get_by_role("button", name="Unlock …").is_visible()
        assert page.evaluate("sessionStorage.length") == 0


def test_revoked_token_locks_the_controls(browser: Browser, server: ControlServer) -> None:
    """Within seconds, also if nothing is pressed."""
    store = TokenStore(ProjectPaths(server.root))
    with controls(browser, server.url, refusals="status of 401") as page:
        unlock(page, store.make("lent", AccessScope.CONTROL, 1_700_000_000.0, None))
        expect(page.locator("#holder")).to_have_text("Token lent, scope control")
        store.revoke("lent")
        expect(page.locator("#refused")).to_have_text(
            "the token lent is revoked; `pipeline token make` makes another", timeout=15_000
        )
        expect(page.locator("#operations button")).to_have_count(0)
        assert page.evaluate("sessionStorage.length") == 0


def test_token_stays_in_its_tab(browser: Browser, server: ControlServer) -> None:
    """Over a reload, until it is locked: in no address, cookie, page, and in no other tab."""
    sent: list[tuple[str, bool]] = []
    with controls(browser, server.url) as page:
        page.on("request", lambda one: sent.append((one.url, server.token in str(one.headers))))
        unlock(page, server.token)
        expect(page.locator("#holder")).to_have_text("Token control, scope control")
        page.reload()
        expect(page.locator("#holder")).to_have_text("Token control, scope control")

        assert page.url == f"{server.url}/"
        assert page.context.cookies() == []
        assert server.token not in page.content()
        assert page.evaluate("localStorage.length") == 0
        assert {url.removeprefix(server.url)[:4] for url, has_token in sent if has_token} == {"/v1/"}
        assert not any(server.token in url for url, _ in sent)
        other = page.context.new_page()
        other.goto(server.url)
        expect(other.get_by_role("button", name="Unlock …")).to_be_visible()

        press(page, "Lock")
        expect(page.get_by_role("button", name="Unlock …")).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 0


# ------------------------------------------------------------------------------------------------------- where they are


def test_page_without_control_has_no_controls(shared: ControlServer, tmp_path: Path) -> None:
    """Neither that of a server that only reads, nor a report."""
    report = tmp_path / "r.html"
    assert main.run_commands(["report", "--out", str(report), "--root", str(shared.root)]) == 0
    assert 'class="control"' not in report.read_text("utf-8")
    with served(shared.root) as address:
        assert "control" not in answer_of(address)[2]
        assert answer_of(f"{address}control.js")[0] == answer_of(f"{address}control.css")[0] == 404


def test_content_security_policy_is_as_before(shared: ControlServer) -> None:
    """With controls, too, and on every part of the page."""
    with httpx.Client(base_url=shared.url, trust_env=False) as client:
        for path in ("/", "/control.js", "/control.css", "/page.js", "/data", "/nothing"):
            assert client.get(path).headers["Content-Security-Policy"] == POLICY
        assert "on" + "click=" not in client.get("/").text


def test_page_of_another_site_cannot_act(browser: Browser, server: ControlServer) -> None:
    """Not in a frame, not by a form, and not by a request, even if it knew the token."""
    number = open_generation(server)
    stop, known = f"{server.url}/v1/generations/{number}/stop", len(changes(server, "control"))
    with other_site() as address:
        page = browser.new_page()
        page.goto(address)
        page.evaluate("(url) => { document.body.innerHTML = `<iframe src=${url}></iframe>`; }", server.url)
        assert eventually(lambda: len(page.frames) == 2)
        page.wait_for_load_state("networkidle")
        assert page.frames[1].locator("#control").count() == 0

        asked = """([url, token, mode]) => fetch(url, {
          method: "POST", mode, credentials: "include", headers: { Authorization: `Bearer ${token}` },
        }).then((answer) => answer.type, () => "refused")"""
        assert page.evaluate(asked, [stop, server.token, "cors"]) == "refused"
        assert page.evaluate(asked, [stop, server.token, "no-cors"]) == "refused"

        page.evaluate(
            "(url) => { document.body.innerHTML = `<form method=post action=${url}><button>x</button></form>`; }", stop
        )
        page.locator("button").click()
        expect(page.locator("body")).to_contain_text("foreign-origin")
        page.close()
    assert state(server, number) == "open"
    assert len(changes(server, "control")) == known


@contextmanager
def other_site() -> Iterator[str]:
    """The address of an empty page of another origin."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>other</title>")

        def log_message(self, *_args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{site.server_address[1]}/"
        finally:
            site.shutdown()
            thread.join()
