from collections.abc import Iterator

import pytest

from tests.lingo_chat.lingo_chat_user import talk
from tests.providers import Provider, running


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running() as served:
        served.reply_to = talk
        yield served
