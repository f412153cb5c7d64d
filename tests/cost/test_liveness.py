import keras
from hypothesis import given
from hypothesis import strategies as st
from keras import layers as kl

from invact.cost.count import count_macs
from invact.cost.liveness import BufferUse, live_bytes


@st.composite
def programs(draw):
    """Draw steps that read existing buffers and write a new or an existing buffer."""
    sizes = {0: draw(st.integers(0, 9))}
    steps = []
    for _ in range(draw(st.integers(1, 8))):
        reads = draw(st.frozensets(st.sampled_from(sorted(sizes)), max_size=3))
        target = draw(st.sampled_from([*sorted(sizes), len(sizes)]))
        sizes.setdefault(target, draw(st.integers(0, 9)))
        steps.append(BufferUse(reads, {target: sizes[target]}))
    return steps, sizes, draw(st.frozensets(st.sampled_from(sorted(sizes)), max_size=2))


@given(programs())
def test_a_buffer_is_alive_from_its_first_use_to_its_last(program):
    steps, sizes, outputs = program

    def uses(buffer):
        times = [t for t, step in enumerate(steps) if buffer in step.reads or buffer in step.writes]
        start = [0] if buffer == 0 and (times or buffer in outputs) else []
        end = [len(steps) - 1] if buffer in outputs else []
        return start + times + end

    expected = [
        sum(size for b, size in sizes.items() if uses(b) and min(uses(b)) <= t <= max(uses(b)))
        for t in range(len(steps))
    ]
    assert live_bytes({0: sizes[0]}, steps, outputs) == expected


def alive(model):
    return {row.name: row.activation_bytes for row in count_macs(model).layers}


def test_a_chain_holds_what_a_layer_reads_and_writes():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            kl.Conv2D(4, 3, name="conv"),
            kl.ReLU(name="act"),
            kl.Flatten(name="flat"),
            kl.Dense(10, name="logits"),
        ]
    )
    image, maps = 8 * 8 * 3, 6 * 6 * 4
    # Flatten is a view: it shares the memory of its input.
    assert alive(model) == {
        "conv": 4 * (image + maps),
        "act": 4 * 2 * maps,
        "flat": 4 * maps,
        "logits": 4 * (maps + 10),
    }
    cost = count_macs(model)
    assert cost.activation_bytes == 4 * (image + maps)
    assert cost.bytes_written == 4 * (2 * maps + 10)


def test_a_shortcut_stays_alive_until_it_is_added():
    inputs = keras.Input((8, 8, 4))
    x = kl.Conv2D(16, 1, name="wide")(inputs)
    x = kl.Conv2D(4, 1, name="narrow")(x)
    model = keras.Model(inputs, kl.Add(name="add")([inputs, x]))
    pixels = 4 * 8 * 8
    assert alive(model) == {"wide": 20 * pixels, "narrow": 24 * pixels, "add": 12 * pixels}


def test_an_output_stays_alive_to_the_end():
    inputs = keras.Input((4,))
    early = kl.Dense(100, name="early")(inputs)
    late = kl.Dense(2, name="late")(kl.Dense(3, name="middle")(inputs))
    both = alive(keras.Model(inputs, [early, late]))
    # Keras runs the calls that are furthest from an output first.
    assert both == {"middle": 4 * (4 + 3), "late": 4 * (4 + 3 + 2), "early": 4 * (4 + 2 + 100)}


def test_16_bit_tensors_take_half_the_memory():
    policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    inputs = keras.Input((8, 8, 3))
    x = kl.Conv2D(4, 3, padding="same", dtype=policy, name="conv")(inputs)
    model = keras.Model(inputs, kl.Conv2D(4, 3, padding="same", dtype=policy, name="again")(x))
    maps = 8 * 8 * 4
    assert alive(model) == {"conv": 4 * 8 * 8 * 3 + 2 * maps, "again": 2 * 2 * maps}
    assert count_macs(model).bytes_written == 2 * 2 * maps


def test_an_inverse_activation_writes_twice_what_it_reads():
    from invact.layers import InverseActivation

    model = keras.Sequential([keras.Input((8, 8, 4)), InverseActivation(name="act")])
    (row,) = count_macs(model).layers
    assert (row.elementwise, row.bytes_written, row.activation_bytes) == (512, 2048, 3072)


def test_scores_of_attention_are_alive_between_their_products():
    inputs = keras.Input((50, 8))
    model = keras.Model(inputs, kl.MultiHeadAttention(2, 4)(inputs, inputs))
    scores = 4 * 2 * 50 * 50
    assert count_macs(model).activation_bytes >= 2 * scores
