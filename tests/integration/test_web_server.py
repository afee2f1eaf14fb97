"""The page in a real browser: live updates, hostile strings, keyboard, narrow screens; and access control.

Headless Chromium; the server is the shipped command in its own process.
"""

import http.client
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from msgspec import structs
from playwright.sync_api import Browser, Route, expect

from inbox_agent.protocol.layout import Setting
from pipeline.cli import main
from pipeline.core.facts import GenomeAdded
from pipeline.inspection.project_reader import ProjectReader
from pipeline.paths import ProjectPaths
from pipeline.storage.ledger import Ledger
from pipeline.storage.live_status import LiveStatusFile
from pipeline.ui.own_names import url_host
from pipeline.views.progress import measure_progress
from tests.harness.browser import chromium, opened
from tests.harness.core import CoreHarness
from tests.harness.samba import free_port
from tests.harness.served_project import here, served, status
from tests.harness.waiting import eventually
from tests.programs.faulty_run import BEGAN_AT, OTHER_VERSION, FaultyRun, faulty_project, mixed_project

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    faulty_project(root, generations=2)
    return root


def test_page_of_finished_run(browser: Browser, project: Path) -> None:
    """Counts, plots, explanations, and another generation when it is selected."""
    with served(project) as address, opened(browser, address) as page:
        expect(page.locator("#state")).to_have_text("finished")
        expect(page.locator("#tiles div").first).to_have_text("genomes24")
        for plot in ("trend", "spread", "gantt", "outcomes", "fitness", "seconds"):
            expect(page.locator(f"#{plot} svg.main-svg").first).to_be_visible()
        failed = page.locator("details", has_text="bot-02-009.json")
        expect(failed.locator(".story")).to_be_visible()
        expect(failed.locator(".story")).to_contain_text("failed for good")

        page.locator("#generation").select_option("1")

        expect(page.locator("summary", has_text="bot-01-009.json")).to_be_visible()
        expect(page.locator("#now")).to_be_hidden()


def test_page_waits_for_the_first_run(browser: Browser, tmp_path: Path) -> None:
    """It shows the first generation as soon as there is one."""
    (tmp_path / "pipeline.toml").write_text("[local]\nworkers = 1\n[evaluator]\ncommand = ['play']\n")
    with served(tmp_path) as address:
        page = browser.new_page()
        page.goto(address)
        expect(page.locator("#state")).to_have_text("waiting for the first run …")
        calm_project(tmp_path)
        expect(page.locator("#tiles div").first).to_have_text("genomes6", timeout=15_000)
        page.close()


def calm_project(root: Path, params: Callable[[int], dict[str, Setting]] = lambda _genome: {}) -> None:
    """A project whose only generation went well: six genomes with two values of fitness."""
    core = CoreHarness("w0", genomes=6, depth=6)
    core.run_until_ready()
    for number, attempt in enumerate(list(core.farm.attempts)):
        core.publish_result(attempt, fitness=0.25 * (number % 2), metrics={"lives": 3.0 + number}, seconds=0.05)
    core.tick()
    assert core.farm.finished
    root.mkdir(parents=True, exist_ok=True)
    (root / "pipeline.toml").write_text("[local]\nworkers = 0\n[[worker]]\nname = 'w0'\nshare = '/shares/w0'\n")
    ledger = Ledger(root / "state")
    for fact, at in core.facts:
        added = structs.replace(fact, params=params(fact.genome)) if isinstance(fact, GenomeAdded) else fact
        ledger.append([added], BEGAN_AT + at, 1, 1)
    ledger.close()


def test_params_of_genomes_are_columns(browser: Browser, tmp_path: Path) -> None:
    """They are sorted as what they are, also one with values of several types; what a program named is text."""
    calm_project(tmp_path, lambda n: {"<i>rate</i>": n * 3.0, "origin": "<b>old</b>" if n > 3 else n, "elite": n == 1})
    with served(tmp_path) as address, opened(browser, address) as page:
        assert page.locator("#genomes th button").all_inner_texts()[3:6] == ["<i>rate</i>", "elite", "origin"]
        page.locator("#genomes th button", has_text="rate").click()
        rows = [row.inner_text().split("\t") for row in page.locator("#genomes tbody tr").all()]
        assert [row[3] for row in rows] == ["18", "15", "12", "9", "6", "3"]
        page.locator("#genomes th button", has_text="origin").click()
        rows = [row.inner_text().split("\t") for row in page.locator("#genomes tbody tr").all()]
        assert [row[5] for row in rows] == ["3", "2", "1"] + ["<b>old</b>"] * 3
        assert [row[4] for row in rows] == ["false", "false", "true", *["false"] * 3]


def test_page_of_generation_without_problems(browser: Browser, tmp_path: Path) -> None:
    """It says so; there is a bar per value of fitness, a column per metric, and no legend for what did not occur."""
    calm_project(tmp_path)
    with served(tmp_path) as address, opened(browser, address) as page:
        expect(page.locator("#events")).to_have_text("Nothing went wrong: no game failed, no attempt was lost.")
        expect(page.locator("#failing")).to_be_hidden()
        expect(page.locator("#spread .point path")).to_have_count(2)
        expect(page.locator("#gantt .point path")).to_have_count(6)
        expect(page.locator("#gantt .legend .traces, #outcomes .legend .traces")).to_have_count(0)
        page.locator("#genomes th button", has_text="lives").click()
        expect(page.locator("#genomes th[aria-sort=descending]")).to_have_text("lives")
        expect(page.locator("#genomes th button", has_text="lives")).to_be_focused()
        rows = [row.inner_text().split() for row in page.locator("#genomes tbody tr").all()]
        assert [row[3] for row in rows] == ["8", "7", "6", "5", "4", "3"]


def test_legend_has_only_what_occurs(browser: Browser, project: Path) -> None:
    with ProjectReader(project) as reader:
        outcomes = {str(a.outcome).replace("_", " ") for a in reader.farm(2).attempts.values() if a.outcome}
    with served(project) as address, opened(browser, address) as page:
        assert set(page.locator("#outcomes .legend .traces").all_text_contents()) == outcomes


def test_failure_stays_folded(browser: Browser, tmp_path: Path) -> None:
    """Failures are open at first; one that was closed stays closed when the page is updated."""
    run = faulty_project(tmp_path, generations=1, share=0.9)
    host = _Playing(tmp_path, run)
    host.go_on(1)
    with served(tmp_path) as address, opened(browser, address) as page:
        failed = page.locator("details", has=page.locator("summary", has_text="bot-01-009.json"))
        expect(failed.locator(".story")).to_be_visible()
        failed.locator("summary").click()
        expect(failed.locator(".story")).to_be_hidden()
        before = page.locator("#tiles div", has_text="completed").inner_text()
        host.go_on(20)
        expect(page.locator("#tiles div", has_text="completed")).not_to_have_text(before, timeout=15_000)
        expect(failed.locator(".story")).to_be_hidden()
    LiveStatusFile(tmp_path / "state").remove()


@pytest.mark.parametrize("folder", ["results", "reports of März #1 100%"])
def test_report_links_to_files_of_attempts(browser: Browser, tmp_path: Path, folder: str) -> None:
    """Of every trial and in the explanations, from wherever the report lies; not of an attempt that has no files."""
    root, out = tmp_path / "farm #1", tmp_path / "farm #1" / folder / "r.html"
    faulty_project(root, generations=2)
    with_files = set[str]()
    for generation in (1, 2):
        with ProjectReader(root) as reader:
            archived = [attempt.id for attempt in reader.farm(generation).attempts.values() if attempt.archived]
        for attempt in archived[: -len(archived) // 4]:
            (ProjectPaths(root).results(generation) / "attempts" / attempt).mkdir(parents=True)
            with_files.add(attempt)
    out.parent.mkdir(exist_ok=True)
    assert main.run_commands(["report", "--all", "--out", str(out), "--root", str(root)]) == 0
    with ProjectReader(root) as reader:
        farm = reader.farm(2)
    with opened(browser, out.as_uri()) as page:
        links = page.locator("#genomes tbody a").evaluate_all("(all) => all.map((one) => one.href)")
        told = page.locator("#stories a").evaluate_all("(all) => all.map((one) => [one.href, one.textContent])")
        page.locator("#generation").select_option("1")
        before = page.locator("#genomes tbody a").first.evaluate("(one) => one.href")
    archive = root / "results" / "gen-0002" / "attempts"

    paths = [Path(url2pathname(urlsplit(link).path)) for link in links]
    assert {path.parent for path in paths} == {archive}
    decided = {
        t.decided_by for g in farm.genomes for t in g.trials if t.decided_by and farm.attempts[t.decided_by].archived
    }
    assert decided - with_files, "all attempts have files"
    assert decided & with_files <= {path.name for path in paths} <= with_files
    assert len(told) > 2
    assert all(Path(url2pathname(urlsplit(link).path)) == archive / attempt for link, attempt in told)
    assert Path(url2pathname(urlsplit(before).path)).parent == root / "results" / "gen-0001" / "attempts"


def test_served_page_has_paths_instead_of_links(browser: Browser, project: Path) -> None:
    """The server gives no files away."""
    with served(project) as address, opened(browser, address) as page:
        expect(page.locator("#files")).to_contain_text("results/gen-0002/results.jsonl")
        expect(page.locator("#files")).to_contain_text("results/gen-0002/attempts/")
        expect(page.locator("main a")).to_have_count(0)
        title = page.locator("#genomes tbody [title]").first.get_attribute("title")
        assert title is not None and title.startswith("g0002-") and title.endswith("results/gen-0002/results.jsonl")


def test_every_played_game_has_its_bar(browser: Browser, project: Path) -> None:
    """Also those that were over before a scan saw their claims; each bar can be seen."""
    played = {"completed", "failed", "timed_out"}
    with ProjectReader(project) as reader:
        attempts = reader.farm(2).attempts.values()
        games = [a for a in attempts if a.claimed_at is not None or (a.has_result and a.outcome in played)]
    assert any(attempt.claimed_at is None for attempt in games)
    with served(project) as address, opened(browser, address) as page:
        bars = page.locator("#gantt .barlayer .point path").all()
        assert len(bars) == len(games)
        for bar in bars:
            box = bar.bounding_box()
            assert box is not None and box["width"] > 0 and box["height"] > 1


def test_hostile_names_are_text_on_page(browser: Browser, project: Path) -> None:
    """In every table and every plot, also if the name contains an image."""
    with served(project) as address, opened(browser, address) as page:
        expect(page.get_by_role("cell", name="<img src=x onerror=alert(1)>.json")).to_be_visible()
        expect(page.get_by_role("cell", name="a&amp;b\"'.json")).to_be_visible()
        page.locator("#gantt").scroll_into_view_if_needed()
        for bar in page.locator("#gantt .point path").all()[:40]:
            bar.hover(force=True)
        assert page.locator("img").count() == 0


def test_page_of_mixed_generation(browser: Browser, project: Path, tmp_path: Path) -> None:
    """The header says that there are several evaluators, the table which genome has which; other pages have neither."""
    mixed_project(tmp_path)
    with served(tmp_path) as address, opened(browser, address, width=360) as page:
        expect(page.locator("#mixed")).to_contain_text(OTHER_VERSION)
        expect(page.locator("#genomes th", has_text="evaluator")).to_be_visible()
        expect(page.locator("#genomes").get_by_role("cell", name=OTHER_VERSION)).to_have_count(2)
        expect(page.locator("#workers")).to_contain_text(f"this generation is played by {OTHER_VERSION}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    with served(project) as address, opened(browser, address) as page:
        expect(page.locator("#mixed")).to_be_hidden()
        expect(page.locator("#genomes th", has_text="evaluator")).to_have_count(0)


def test_report_equals_served_page(browser: Browser, project: Path, tmp_path: Path) -> None:
    """As a file, without a server, with all generations to select from."""
    assert main.run_commands(["report", "--all", "--out", str(tmp_path / "r.html"), "--root", str(project)]) == 0
    with opened(browser, (tmp_path / "r.html").as_uri()) as page:
        page.locator("#generation").select_option("1")
        expect(page.locator("summary", has_text="bot-01-009.json")).to_be_visible()
        expect(page.locator("#gantt svg.main-svg").first).to_be_visible()


def test_page_works_with_keyboard(browser: Browser, project: Path) -> None:
    """To the content, to the order of a column and back, and into the search."""
    with served(project) as address, opened(browser, address) as page:
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Enter")
        name = page.locator("#genomes th button", has_text="name")
        name.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#genomes th[aria-sort=ascending]")).to_have_text("name")
        expect(page.locator("#genomes th button", has_text="name")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#genomes th[aria-sort=descending]")).to_have_text("name")
        page.get_by_label("Find").focus()
        page.keyboard.type("009")
        expect(page.locator("#genomes tbody tr")).to_have_count(1)


def test_page_fits_narrow_screen(browser: Browser, project: Path) -> None:
    """Nothing is wider than a telephone; tables scroll separately."""
    with served(project) as address, opened(browser, address, width=360) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        heights = page.evaluate("[...document.querySelectorAll('#genomes tbody tr')].map((row) => row.offsetHeight)")
        assert max(heights) < 250


class _Playing:
    """A running host as readers see it: its ledger and its live status grow."""

    def __init__(self, root: Path, run: FaultyRun) -> None:
        self._root, self._run = root, run
        self._live = LiveStatusFile(root / "state")

    def go_on(self, ticks: int) -> None:
        run = self._run
        known = len(run.facts)
        for _ in range(ticks):
            if not run.table.farm.finished:
                run._step()
        run._keep()
        ledger = Ledger(self._root / "state")
        for generation, at, fact in run.facts[known:]:
            ledger.append([fact], at, generation, 1)
        ledger.close()
        self._live.write(measure_progress(run.table.farm, run.table.observed, run.table.now))


def test_page_follows_running_generation(browser: Browser, tmp_path: Path) -> None:
    """Counts, workers and plots are updated; the end of the run is shown."""
    run = faulty_project(tmp_path, generations=1, share=0.3)
    host = _Playing(tmp_path, run)
    host.go_on(1)
    with served(tmp_path) as address, opened(browser, address) as page:
        host.go_on(1)  # a status of ten seconds ago is that of a host that is gone
        expect(page.locator("#now")).to_be_visible()
        expect(page.locator("#rows tbody tr")).to_have_count(5)
        before = page.locator("#tiles div", has_text="completed").inner_text()
        bars = page.locator("#gantt .point").count()
        host.go_on(60)
        expect(page.locator("#tiles div", has_text="completed")).not_to_have_text(before, timeout=15_000)
        assert eventually(lambda: page.locator("#gantt .point").count() > bars, 15)

        host.go_on(2000)
        LiveStatusFile(tmp_path / "state").remove()

        expect(page.locator("#now")).to_be_hidden(timeout=15_000)
        expect(page.locator("#state")).to_have_text("finished", timeout=15_000)


def test_chosen_generation_stays(browser: Browser, tmp_path: Path) -> None:
    """Also if an update of the one before was on its way when it was chosen."""
    run = faulty_project(tmp_path, generations=2, share=0.3)
    host, late = _Playing(tmp_path, run), list[Route]()

    def hold(route: Route) -> None:
        late.append(route)

    with served(tmp_path) as address, opened(browser, address, has_plots=False) as page:
        page.route("**/data?gen=2", hold)
        with page.expect_request("**/data?gen=2"):
            host.go_on(1)
        page.locator("#generation").select_option("1")
        expect(page.locator("body")).to_have_attribute("data-shown", "1")

        with page.expect_request_finished(lambda request: request.url.endswith("gen=2")):
            late[0].continue_()

        expect(page.locator("body")).to_have_attribute("data-shown", "1")
        expect(page.locator("#generation")).to_have_value("1")
    LiveStatusFile(tmp_path / "state").remove()


def test_page_notices_that_no_host_plays_any_more(browser: Browser, tmp_path: Path) -> None:
    """Also if the host was stopped without a last fact."""
    run = faulty_project(tmp_path, generations=1, share=0.3)
    host = _Playing(tmp_path, run)
    host.go_on(1)
    with served(tmp_path) as address, opened(browser, address) as page:
        host.go_on(0)  # a status of ten seconds ago is that of a host that is gone
        expect(page.locator("#state")).to_contain_text("running: ")

        LiveStatusFile(tmp_path / "state").remove()

        expect(page.locator("#now")).to_be_hidden(timeout=15_000)
        expect(page.locator("#state")).to_have_text("not finished; no host is running it", timeout=15_000)


# --------------------------------------------------------------------------------------------------- access control


def test_foreign_host_header_is_refused(project: Path) -> None:
    """A foreign page whose name resolves to this server gets no data; nothing can be written."""
    with served(project) as address:
        assert status(address) == 200
        assert status(address, Host="evil.example") == 400
        assert status(f"{address}data?gen=99") == 404
        request = urllib.request.Request(address, data=b"x", method="POST")
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5)
        with error.value:
            assert error.value.code == 405


def test_foreign_host_header_is_refused_with_the_token_too(project: Path) -> None:
    """Beyond loopback the server has more names: this computer's, and every address."""
    with served(project, "--host", "0.0.0.0") as address:
        assert status(here(address), Host="evil.example") == 400
        for own in (socket.gethostname(), "192.0.2.7", "[2001:db8::7]:8765", "localhost"):
            assert status(here(address).partition("?")[0], Host=own) == 401


def test_content_security_policy_is_strict(project: Path) -> None:
    """Only its own script and its own address; no other site may embed its data."""
    plain = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with served(project) as address, plain.open(address, timeout=5) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "default-src 'none'" in policy and "script-src 'self'" in policy
    assert "unsafe-eval" not in policy and "script-src 'self' 'unsafe-inline'" not in policy


@pytest.mark.parametrize(
    ("host", "name"), [("0.0.0.0", socket.gethostname()), ("::", socket.gethostname()), ("::1", "[::1]"), ("a", "a")]
)
def test_printed_url_is_reachable(host: str, name: str) -> None:
    """With all addresses bound, one of them is printed."""
    assert url_host(host) == name


def test_token_is_required_beyond_loopback(browser: Browser, project: Path) -> None:
    """Without it the server returns no data; the browser stores it after the first use, and removes it from the
    address."""
    with served(project, "--host", "0.0.0.0") as address:
        bare, _, token = here(address).partition("?token=")
        assert len(token) >= 32
        assert status(bare) == status(f"{bare}data") == status(f"{bare}?token=wrong") == 401
        with opened(browser, here(address)) as page:
            assert "token" not in page.url
            expect(page.locator("#state")).to_have_text("finished")


def test_token_leads_to_this_server_only(project: Path) -> None:
    """Whatever path it is sent with: `//evil.example/` would be another server."""
    with served(project, "--host", "0.0.0.0") as address:
        port, token = urlsplit(here(address)).port, here(address).partition("?token=")[2]
        for path in ("/", "//evil.example/", "/data", "///evil.example"):
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            client.request("GET", f"{path}?token={token}")
            answer = client.getresponse()
            client.close()

            assert (answer.status, answer.headers["Location"]) == (303, "/")


def test_ctrl_c_ends_server_with_open_page(project: Path) -> None:
    """Open connections are closed; nothing is printed, and there is nothing to resume."""
    port = free_port()
    command = [sys.executable, "-m", "pipeline", "serve", "--root", str(project), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        assert eventually(lambda: status(f"http://127.0.0.1:{port}/") == 200)
        with socket.create_connection(("127.0.0.1", port)) as page:
            page.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b"200" in page.recv(4096)
            server.send_signal(signal.SIGINT)
            _, output = server.communicate(timeout=30)

    assert (server.returncode, output) == (0, b"")
