"""A real Chromium, headless, driven by selenium: what it wrote to its console is part of what a test asserts."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.deadline import eventually

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MISSING = "needs chromium and chromedriver on the PATH; apt-get install chromium chromium-driver"


def is_installed() -> bool:
    """True where Chromium and its driver are on the PATH."""
    return shutil.which("chromium") is not None and shutil.which("chromedriver") is not None


class Chromium:
    """One window. Every lookup waits for what it looks for."""

    def __init__(self, driver: webdriver.Chrome, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads

    def open(self, url: str) -> None:
        """Go to `url`."""
        self.driver.get(url)

    def find(self, selector: str, *, within_s: float = 20.0) -> WebElement:
        """The first element of a CSS selector."""
        found: list[WebElement] = eventually(
            lambda: self.driver.find_elements(By.CSS_SELECTOR, selector),
            within_s=within_s,
            what=f"{selector} on the page",
        )
        return found[0]

    def all(self, selector: str) -> list[WebElement]:
        """Every element of a CSS selector that is there now."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def write(self, selector: str, text: str) -> None:
        """Type `text` into an empty field."""

        def typed(field: WebElement) -> None:
            field.clear()
            field.send_keys(text)

        self._act(selector, typed)

    def type(self, selector: str, *keys: str) -> None:
        """Send keys."""
        self._act(selector, lambda field: field.send_keys(*keys))

    def press(self, selector: str) -> None:
        """Click."""
        self._act(selector, WebElement.click)

    def text(self, selector: str = "body") -> str:
        """What a person reads there now, nothing where nothing is."""
        return "".join(self.texts(selector)[:1])

    def texts(self, selector: str) -> list[str]:
        """What a person reads in each element now: one reading, so that a page that is changing cannot pull one away between two."""
        every = "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText ?? one.textContent)"
        return [str(text) for text in self.driver.execute_script(every, selector)]

    def values(self, selector: str) -> list[str]:
        """What each field holds now."""
        every = "return [...document.querySelectorAll(arguments[0])].map((one) => one.value)"
        return [str(value) for value in self.driver.execute_script(every, selector)]

    def read(self, selector: str, *, within_s: float = 20.0) -> str:
        """What a person reads there, once it is there."""
        read = eventually(lambda: self.texts(selector), within_s=within_s, what=f"{selector} on the page")
        return read[0]

    def complaints(self) -> list[str]:
        """Warnings and errors of the console since the last call, violations of the content-security policy included."""
        said = self.driver.execute("getLog", {"type": "browser"})["value"]
        return [f"{entry['level']}: {entry['message']}" for entry in said if entry["level"] in ("WARNING", "SEVERE")]

    def appear(self, *, width: int, height: int = 900, scheme: Literal["light", "dark"] = "light") -> None:
        """The size of the window and the colours that its user prefers."""
        mobile = width < 600
        self._tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self._tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def overflow_px(self) -> int:
        """By how much the page is wider than the window."""
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.driver.execute_script(wide))

    def keep_picture(self, name: str) -> None:
        """The whole page as a PNG under $CPD_TEST_PICTURES, where that is set: for people who want to look."""
        folder = os.environ.get("CPD_TEST_PICTURES")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"{name}.png").write_bytes(self._picture())

    def _act(self, selector: str, act: Callable[[WebElement], None]) -> None:
        """`act` on the first element of a selector; on its successor where the page put another in its place meanwhile."""

        def done() -> bool:
            try:
                act(self.find(selector))
            except StaleElementReferenceException:
                return False
            return True

        eventually(done, within_s=20, what=f"{selector} holding still")

    def _picture(self) -> bytes:
        shot = self._tell("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def _tell(self, command: str, **parameters: Any) -> dict[str, Any]:
        return dict(self.driver.execute_cdp_cmd(command, parameters) or {})


@contextmanager
def chromium(folder: Path, *, scripts: bool = True) -> Iterator[Chromium]:
    """A Chromium with an empty profile under `folder`, where its downloads go too; without `scripts` it runs none."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    downloads = folder / "downloads"
    downloads.mkdir(parents=True)
    preferences: dict[str, Any] = {"download.default_directory": str(downloads)}
    if not scripts:
        preferences["profile.managed_default_content_settings.javascript"] = 2
    options.add_experimental_option("prefs", preferences)
    # Named, since selenium would otherwise look for a driver on the network.
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Chromium(driver, downloads)
    finally:
        driver.quit()
