from hypothesis import given
from hypothesis import strategies as st

from store.model import Labels

names = st.text(min_size=1, max_size=8)


@given(st.dictionaries(names, st.text(max_size=8)))
def test_label_order_does_not_matter_and_empty_values_do_not_exist(pairs: dict[str, str]) -> None:
    forward, backward = Labels(pairs.items()), Labels(reversed(pairs.items()))
    assert forward == backward
    assert hash(forward) == hash(backward)
    assert forward.to_dict() == {name: value for name, value in pairs.items() if value}
