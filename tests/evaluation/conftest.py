"""Fixtures over small scored data sets; `scored_data.py` makes them."""

import pandas as pd
import pytest

from tests.evaluation.scored_data import simulate


@pytest.fixture(scope="session")
def data() -> pd.DataFrame:
    return simulate()
