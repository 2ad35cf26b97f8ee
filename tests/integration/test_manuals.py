"""The manual pages are good mdoc."""
import glob
import os

import pytest

from harness import ROOT, need_program, run

PAGES = sorted(glob.glob(os.path.join(ROOT, 'docs', '*.[158]')))


@pytest.mark.parametrize('page', PAGES, ids=os.path.basename)
def test_a_manual_page_has_no_warning(page):
    assert run(need_program('mandoc'), '-Tlint', '-Wwarning', page, check=False).out == ''
