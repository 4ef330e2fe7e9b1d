from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import HeadgateError
from headgate.settings import RootsSettings, ServingSettings, Settings
from serving.server import serve


def test_a_host_that_is_not_there_is_an_error_with_its_name(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        roots=RootsSettings(state=str(tmp_path)),
        serving=ServingSettings(host="no.such.host.invalid", port=1),
    )
    with pytest.raises(HeadgateError, match=r"cannot listen on no\.such\.host\.invalid:1"):
        serve(settings, print)
