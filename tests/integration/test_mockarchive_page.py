"""The page of mockarchive in a real browser: what it shows is what is so, what its buttons say happens, and nothing is asked of
anybody but the mock itself."""
import os

import pytest

import browser
from archive_harness import archive, read_errno, shared, start		# noqa: F401
from browser import Browser
from harness import wait_for

pytestmark = pytest.mark.skipif(not browser.CHROMIUM, reason='needs chromium, which scripts/setup.sh test installs')


@pytest.fixture(scope='module')
def chromium():
    b = Browser()
    yield b
    b.close()


@pytest.fixture
def page(chromium, archive):
    chromium.events.clear()
    chromium.open(archive.url + '/')
    chromium.wait('document.body.dataset.ready')
    yield chromium
    assert chromium.complaints() == []
    assert [u for u in chromium.requests() if not u.startswith((archive.url + '/', 'data:'))] == []


def count(name):
    return 'Number(document.querySelector(\'[data-state="%s"] b\').textContent)' % name


def click(page, selector):
    assert page.evaluate('!!document.querySelector(%r)' % selector), 'no ' + selector
    page.evaluate('document.querySelector(%r).click()' % selector)


def test_it_shows_the_archive_and_what_happens_to_it(page, archive):
    assert page.evaluate('document.querySelector("#mountpoint").textContent') == archive.mount
    assert page.evaluate('document.querySelector("#profile").value') == 'eth-lts'
    archive.write('dir/<b>bold</b>', b'data')
    page.wait(count('archiving') + ' === 1')
    page.wait('document.querySelector("#due").textContent.includes("the next in")')
    assert page.evaluate('document.querySelector("#files td").textContent') == '/dir/<b>bold</b>'
    archive.settle()
    page.wait(count('released') + ' === 1 && ' + count('archiving') + ' === 0')
    page.wait('document.querySelector("#journal").textContent.includes("dual → released")')
    archive.request('PATCH', '/v1/drives/1', {'up': False})
    page.wait('document.querySelector(\'[data-drive="1"] button\').getAttribute("aria-checked") === "false"')


def test_its_clock_and_file_buttons_do_what_they_say(page, archive):
    path = archive.write('a', b'one')
    page.wait(count('archiving') + ' === 1')
    click(page, '#advance-1')
    page.wait('document.querySelector("#due").textContent.includes("in 4 s")')
    assert archive.state(path) == 'archiving'
    click(page, '#settle')
    page.wait(count('released') + ' === 1')
    assert archive.state(path) == 'released'
    click(page, '[data-path="/a"] button')			# recall
    page.wait(count('recalling') + ' === 1')
    click(page, '#advance-60')
    page.wait(count('dual') + ' === 1')
    assert open(path).read() == 'one'
    click(page, '#mode-real')
    page.wait('document.querySelector("#mode-real").getAttribute("aria-pressed") === "true"')
    assert archive.get('/v1/clock')['mode'] == 'real'
    click(page, '#mode-manual')
    page.wait('document.querySelector("#mode-manual").getAttribute("aria-pressed") === "true"')


def test_faults_are_switched_on_and_off_and_counted(page, archive):
    path = archive.write('a', b'one')
    page.evaluate('document.querySelector("#recipe").value = "read: I/O error"')
    page.evaluate('document.querySelector("#fault-path").value = "a"')
    click(page, '#add-fault button')
    page.wait('document.querySelectorAll("[data-fault]").length === 1')
    assert read_errno(path) == 'EIO'
    page.wait('document.querySelector("[data-fault] .count").textContent === "1 hits"')
    page.wait('document.querySelector("#journal .fault")')
    click(page, '[data-fault] [role=switch]')
    page.wait('document.querySelector("[data-fault] [role=switch]").getAttribute("aria-checked") === "false"')
    assert read_errno(path) == 'OK'
    click(page, '#clear-faults')
    page.wait('document.querySelector("#faults").textContent.includes("everything works")')
    assert archive.get('/v1/faults')['faults'] == []


def test_every_recipe_of_the_page_is_a_rule(page, archive):
    names = page.evaluate('[...document.querySelector("#recipe").options].map(o => o.text)')
    for name in names:
        page.evaluate('document.querySelector("#recipe").value = %r' % name)
        click(page, '#add-fault button')
    page.wait('document.querySelectorAll("[data-fault]").length === %d' % len(names))
    assert page.evaluate('document.querySelector("#message").hidden')
    assert sorted(f['note'] for f in archive.get('/v1/faults')['faults']) == sorted(names)


def test_drives_library_profile_and_filters(page, archive):
    for name in ('x/1', 'x/2', 'y/1'):
        archive.write(name, b'data')
    archive.settle()
    archive.write('y/2', b'data')
    page.wait('document.querySelectorAll("#files tr").length === 4')
    page.evaluate('(s => { s.value = "released"; s.dispatchEvent(new Event("change")); })(document.querySelector("#filter-state"))')
    page.wait('document.querySelectorAll("#files tr").length === 3')
    page.evaluate('(s => { s.value = "/y"; s.dispatchEvent(new Event("input")); })(document.querySelector("#filter-prefix"))')
    page.wait('document.querySelectorAll("#files tr").length === 1')
    click(page, '[data-drive="0"] [role=switch]')
    page.wait('document.querySelector(\'[data-drive="0"] button\').textContent.includes("down")')
    click(page, '#library')
    page.wait('document.querySelector("#library").textContent === "library down"')
    assert archive.get('/v1/library') == {'up': False} and archive.get('/v1/drives')['drives'][0]['up'] is False
    page.evaluate('(s => { s.value = "lustre"; s.dispatchEvent(new Event("change")); })(document.querySelector("#profile"))')
    wait_for('the profile', lambda: archive.get('/v1/settings')['profile'] == 'lustre')


def test_what_is_refused_is_said(chromium, archive):
    chromium.events.clear()
    chromium.open(archive.url + '/')
    chromium.wait('document.body.dataset.ready')
    path = archive.archived('a')
    chromium.wait(count('released') + ' === 1')
    os.unlink(path)
    chromium.evaluate('act("POST", "/v1/files/recall", {path: "/a"})')
    chromium.wait('document.querySelector("#message").textContent.includes("No such file")')


def test_with_a_token_the_page_needs_it_behind_its_address(start, chromium):
    archive = start('--token', 'sesame')
    archive.archived('a')
    chromium.open(archive.url + '/#token=sesame')
    chromium.wait(count('released') + ' === 1')


def test_it_can_be_read_in_light_dark_and_on_a_telephone(page, archive, tmp_path):
    """Letters stand out from what is behind them by 4.5 to 1 (WCAG 2, 1.4.3), and nothing is cut off at 360 px."""
    archive.archived('a')
    with archive.fault(op='unlink', errno='EBUSY', id='rule'):
        page.wait('document.querySelector("[data-fault]") && ' + count('released') + ' === 1')
        for dark in (False, True):
            page.screenshot(str(tmp_path / 'page.png'), dark)
            low = page.evaluate('''(() => {
                const rgb = s => s.match(/[0-9.]+/g).map(Number);
                const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                    return .2126 * r + .7152 * g + .0722 * b; };
                const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
                    if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
                const low = [];
                for (const e of document.querySelectorAll('h1, h2, p, output, button, td, th, .states li:not(.none) b, .states li:not(.none), .list span, small, a')) {
                    if (!e.textContent.trim() || !e.offsetParent) continue;
                    const pair = [light(rgb(getComputedStyle(e).color).slice(0, 3)), light(behind(e))].sort((a, b) => b - a);
                    const ratio = (pair[0] + .05) / (pair[1] + .05);
                    if (ratio < 4.5) low.push(e.tagName + ' "' + e.textContent.trim().slice(0, 30) + '" ' + ratio.toFixed(2));
                }
                for (const e of document.querySelectorAll('.chip')) {		// the colour of the state's name in the table
                    const pair = [light(rgb(getComputedStyle(e).color).slice(0, 3)), light(behind(document.querySelector('.card')))].sort((a, b) => b - a);
                    if ((pair[0] + .05) / (pair[1] + .05) < 4.5) low.push(e.className);
                }
                return low; })()''')
            assert low == [], ('dark' if dark else 'light', low)
        page.send('Emulation.setDeviceMetricsOverride', width=360, height=800, deviceScaleFactor=1, mobile=True)
        try:
            wide = page.evaluate('[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > 360 && !e.closest(".scroll")).map(e => e.outerHTML.slice(0, 80))')
            assert page.evaluate('document.documentElement.scrollWidth') <= 360, wide
        finally:
            page.send('Emulation.clearDeviceMetricsOverride')
