"""Ragged sets, with a brute-force record of what exists in them."""

import pytest

from .brute_force import ragged


@pytest.fixture(params=range(3))
def truth(request):
    return ragged(request.param)
