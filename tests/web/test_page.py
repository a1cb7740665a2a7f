"""`rgt web` in a real browser: headless Chromium, driven through selenium."""

import contextlib
import io
import itertools
import json
import re
import shutil
import socket
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data

from rgt_arch import rgt_t
from rgt_arch.cli import main

from .. import warm

pytest.importorskip("gradio", reason="needs gradio (extra [web])")
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, which drives the browser")
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
if not (CHROMIUM and DRIVER):
    pytest.skip("needs chromium and chromedriver", allow_module_level=True)

LIMIT = 60
"""Seconds after which something that should be on the page is missing."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(4)
    file = tmp_path_factory.mktemp("weights") / "tiny_x2.pth"
    torch.save({"params": rgt_t(2, depth=[6], num_heads=[2], embed_dim=24).state_dict()}, file)
    return file


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    """The folder in which the server's temporary folder is made."""
    return tmp_path_factory.mktemp("temporary")


@contextlib.contextmanager
def serving(temporary, *flags):
    """Serve the page, and yield its address."""
    port = warm.free_port()
    script = temporary.with_name("web.py")  # the process is forked from one that has read TMPDIR
    script.write_text(
        "import tempfile\nfrom rgt_arch.cli import main\n"
        f"tempfile.tempdir = {str(temporary)!r}\nraise SystemExit(main())"
    )
    server = warm.start(script, "web", *flags, "--port", port)
    wait(lambda: "the page is at" in server.stdout or server.poll() is not None)
    assert server.poll() is None, server.stderr
    yield f"http://127.0.0.1:{port}/"
    server.send_signal(15)
    assert server.wait(LIMIT) == 143
    assert list(temporary.iterdir()) == []


@pytest.fixture(scope="module")
def address(weights, temporary):
    with serving(temporary, "-w", weights) as address:
        yield address


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1400,1100"):
        options.add_argument(f"--{flag}")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Visitor:
    """One visit of the page."""

    def __init__(self, browser, address):
        self.browser, self.address = browser, address
        browser.switch_to.new_window("tab")
        self.tab = browser.current_window_handle
        self.reload()

    def reload(self):
        self.browser.get(self.address)
        wait(lambda: self.find("#one-start"))

    def find(self, selector):
        return self.browser.find_elements("css selector", selector)

    def text(self):
        return self.browser.find_element("tag name", "body").text

    def come_back(self):
        self.browser.switch_to.window(self.tab)

    def choose(self, place, *files):
        wait(lambda: self.find(f"#{place} input[type=file]"))
        self.find(f"#{place} input[type=file]")[0].send_keys("\n".join(map(str, files)))

    def upload(self, file):
        self.choose("picture", file)
        wait(lambda: self.find("#picture img[src*='/file=']"))

    def click(self, name):
        self.find(f"#{name}")[0].click()

    def report(self, name="report"):
        return self.find(f"#{name} textarea")[0].get_property("value")

    def record(self):
        """Keep all texts of the page from now on: a short job's progress may be gone before it is looked at."""
        self.browser.execute_script(
            "window.texts = []; new MutationObserver(() => texts.push(document.body.innerText))"
            ".observe(document.body, {childList: true, subtree: true, characterData: true})"
        )

    def recorded(self):
        return self.browser.execute_script("return texts.join('\\n')")

    def says(self, pattern):
        found = wait(lambda: re.search(pattern, self.text()))
        return found[0]


def wait(condition):
    end = time.monotonic() + LIMIT
    while not (result := condition()):
        assert time.monotonic() < end, "not on the page in time"
        time.sleep(0.02)
    return result


@pytest.fixture
def visit(browser, address):
    tabs = browser.window_handles

    def begin(address=address):
        return Visitor(browser, address)

    yield begin
    for tab in set(browser.window_handles) - set(tabs):
        browser.switch_to.window(tab)
        browser.close()
    browser.switch_to.window(tabs[0])


def photograph(path, height, width, mode="RGB"):
    """Write a photograph with EXIF data."""
    exif = Image.Exif()
    exif[0x10E] = "a cat"
    Image.fromarray(data.chelsea()[:height, :width]).convert(mode).save(path, exif=exif)
    return path


def by_command(file, folder, *flags):
    """Return the bytes that `rgt upscale --ext png` writes."""
    assert main(["upscale", str(file), "-o", f"{folder}/", "--ext", "png", *map(str, flags)]) == 0
    (made,) = folder.iterdir()
    return made.read_bytes()


def downloaded(downloads, name):
    file = downloads / name
    wait(file.exists)
    content = file.read_bytes()
    file.unlink()
    return content


def test_a_picture_is_upscaled_compared_and_downloaded_as_by_the_command(visit, weights, downloads, tmp_path):
    photo = photograph(tmp_path / "Katze (süß).jpg", 150, 200, "L")  # Gradio would make it RGB
    page = visit()
    page.upload(photo)
    page.record()
    page.click("one-start")
    wait(page.report)
    assert re.search(r"\d\d:\d\d left - \d+\.\d%", page.recorded())
    assert page.report().startswith("400×300 pixels in ")
    images = page.find("#slider img")
    wait(lambda: all(image.get_property("complete") for image in images))
    size = ["naturalWidth", "naturalHeight"]
    assert [[image.get_property(name) for name in size] for image in images] == [[400, 300]] * 2
    assert all(image.get_property("src").endswith(".png") for image in images)

    handle = page.find("#slider .inner")[0]
    before = handle.location["x"]
    webdriver.ActionChains(page.browser).drag_and_drop_by_offset(handle, 80, 0).perform()
    assert handle.location["x"] - before == pytest.approx(80, abs=3)

    page.click("result")
    content = downloaded(downloads, "Katze (süß)_x2.png")
    assert content == by_command(photo, tmp_path / "made", "-w", weights)


def test_weights_are_preset_as_by_the_command(visit, downloads, tmp_path, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("temporary")) as address:
        page = visit(address)
        assert page.find("#weights input")[0].get_property("value") == "by the kind of file"
        photo = photograph(tmp_path / "photo.jpg", 16, 20)
        page.upload(photo)
        page.click("one-start")
        wait(page.report)
        assert page.report().endswith("\nweights for JPEG, lossy WebP, AVIF and videos: RGT_T_x4_photo")
        page.click("result")
        assert downloaded(downloads, "photo_x4.png") == by_command(photo, tmp_path / "made")


def test_several_files_become_a_zip_and_failures_are_reported(visit, weights, downloads, tmp_path):
    photos = [photograph(tmp_path / f"{name}.png", 20, 30 + number) for number, name in enumerate("ab")]
    broken = tmp_path / "broken.png"
    broken.write_bytes(photos[0].read_bytes()[:300])
    page = visit()
    next(tab for tab in page.find("button[role=tab]") if tab.text == "Several files").click()
    (tmp_path / "other").mkdir()
    page.choose("files", photos[0], photograph(tmp_path / "other" / "a.png", 20, 40))
    wait(lambda: len(page.find("#files tr.file")) == 2)
    page.click("several-start")
    page.says(r"a\.png: 2 files have this name; rename them")
    page.reload()
    next(tab for tab in page.find("button[role=tab]") if tab.text == "Several files").click()
    page.choose("files", *photos, broken)
    page.says("broken")
    page.click("several-start")
    wait(lambda: page.report("summary"))
    assert re.fullmatch(r"2 made\nbroken\.png: is truncated, damaged .*", page.report("summary"))
    page.click("archive")
    with zipfile.ZipFile(io.BytesIO(downloaded(downloads, "upscaled.zip"))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            f"{photo.stem}_x2.png": by_command(photo, tmp_path / photo.stem, "-w", weights) for photo in photos
        }


def test_a_file_that_is_not_a_picture_is_named(visit, tmp_path):
    (tmp_path / "notes.png").write_text("not a picture")
    page = visit()
    page.click("one-start")
    page.says("there is no picture yet")
    page.upload(tmp_path / "notes.png")
    page.click("one-start")
    page.says("\nnotes.png: is truncated, damaged, or not a picture")
    assert "rgt-web-" not in page.text()


def test_what_is_too_large_is_refused_with_the_bound(visit, tmp_path):
    page = visit()
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate((100 << 20) + 1)
    page.choose("picture", tmp_path / "huge.png")
    page.says("maximum allowed size")
    Image.new("1", (6000, 5000)).save(tmp_path / "wide.png")
    page.reload()
    page.upload(tmp_path / "wide.png")
    page.click("one-start")
    page.says(r"wide\.png: the result would have 120 million pixels, and this page makes 100 million at most")


def test_cancelled_job_leaves_no_files_and_the_next_one_runs(visit, temporary, tmp_path):
    folders = set(temporary.glob("*/tmp*"))
    page = visit()
    page.upload(photograph(tmp_path / "large.png", 300, 450))
    page.click("one-start")
    page.says(r"left - \d")
    assert set(temporary.glob("*/tmp*")) > folders
    page.click("one-cancel")
    wait(lambda: set(temporary.glob("*/tmp*")) == folders)
    assert page.report() == ""
    page.click("one-start")
    wait(lambda: set(temporary.glob("*/tmp*")) > folders)
    page.reload()
    wait(lambda: set(temporary.glob("*/tmp*")) == folders)
    page.find(".gallery-item")[0].click()  # the example
    wait(lambda: page.find("#picture img[src*='/file=']"))
    page.click("one-start")
    wait(lambda: page.report().startswith("452×300 pixels"))


def test_two_visitors_take_turns_and_cancel_their_own_jobs_only(visit, tmp_path):
    first = visit()
    first.upload(photograph(tmp_path / "first.png", 300, 451))
    second = visit()
    second.upload(photograph(tmp_path / "second.png", 20, 30))
    first.come_back()
    first.click("one-start")
    first.says(r"left - \d")
    second.come_back()
    second.click("one-start")
    second.says("queue: 1/1")
    second.click("one-cancel")
    wait(lambda: "queue" not in second.text())
    second.click("one-start")
    second.says("queue: 1/1")
    first.come_back()
    first.click("one-cancel")
    second.come_back()
    wait(second.report)
    assert second.report().startswith("60×40 pixels")
    first.come_back()
    assert first.report() == ""


def request(url, content=None, kind="application/json"):
    return urllib.request.urlopen(urllib.request.Request(url, content, {"Content-Type": kind}), timeout=LIMIT).read()


def test_files_outside_of_the_folder_cannot_be_read(address, weights, temporary, tmp_path):
    secret = photograph(tmp_path / "secret.png", 20, 30)
    for file in ("/etc/passwd", secret, "pyproject.toml", "/proc/self/environ"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            request(f"{address}gradio_api/file={file}")

    def answers(path):
        """Send crafted requests for jobs of both tabs, for a picture also without the field that Gradio looks at."""
        bare, picture = {"path": str(path)}, {"path": str(path), "meta": {"_type": "gradio.FileData"}}
        for job, chosen in ((one, bare), (one, picture), (several, [picture])):
            yield answer(job, chosen)

    def answer(job, chosen, form="PNG, lossless"):
        session = f"s{next(counter)}"
        inputs = [chosen, str(weights), 2, form]
        call = {"fn_index": job, "session_hash": session, "data": inputs}
        request(f"{address}gradio_api/queue/join", json.dumps(call).encode())
        return request(f"{address}gradio_api/queue/data?session_hash={session}").decode()

    counter = itertools.count()
    dependencies = json.loads(request(f"{address}config"))["dependencies"]
    one, several = (each["id"] for each in dependencies if len(each["inputs"]) == 4)
    form = b'--b\r\nContent-Disposition: form-data; name="files"; filename="own.png"\r\n\r\n%b\r\n--b--\r\n'
    upload = request(f"{address}gradio_api/upload", form % secret.read_bytes(), "multipart/form-data; boundary=b")
    (own,) = json.loads(upload)
    for text in answers(own):
        assert '"success":true' in text
    made = set(temporary.glob("*/tmp*"))
    (folder,) = temporary.iterdir()
    for path in (secret, f"{own}/../../../{secret}", folder, Path(own).parent, f"{folder}/*/own.png"):
        for text in answers(path):
            assert '"success":false' in text
    assert '"success":false' in answer(one, {"path": own}, "an unknown format")
    assert set(temporary.glob("*/tmp*")) == made


def test_the_server_listens_at_this_computer_only(address):
    port = int(address.rsplit(":", 1)[1].strip("/"))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_a_port_in_use_is_named_with_its_remedy(address, weights):
    port = address.rsplit(":", 1)[1].strip("/")
    ended = warm.run("-m", "rgt_arch.cli", "web", "-w", weights, "--port", port)
    assert ended.returncode == 1
    text = f"--host 127.0.0.1 --port {port}: cannot be used; another program may use it: choose another --port"
    assert ended.stderr.splitlines()[-1] == f"rgt web: error: {text}"


def test_the_browser_asks_nobody_else(visit, address, browser):
    browser.get_log("performance")  # removes the entries of other tests
    visit()
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert address in urls
    assert [url for url in urls if not url.startswith((address, "data:", "blob:", "chrome:", "about:"))] == []
