"""Networks of keras.applications at their native sizes: against XLA's input, and against their papers."""

import keras
import pytest
from hlo import hlo_macs

from invact.cost import count_macs

# The first few are built by default; the others take minutes: pytest -m slow tests/test_applications.py
NAMES = [
    "MobileNetV2",
    "ResNet50",
    "EfficientNetB0",
    "ConvNeXtTiny",
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetV2B0",
    "EfficientNetV2B3",
    "EfficientNetV2S",
    "ConvNeXtSmall",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "NASNetLarge",
    "NASNetMobile",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet50V2",
    "VGG16",
    "VGG19",
    "Xception",
]
QUICK = NAMES[:2]


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_it_agrees_with_hlo_to_the_last_mac(name):
    model = getattr(keras.applications, name)(weights=None)
    cost = count_macs(model)
    assert cost.macs == hlo_macs(model) > 0
    assert cost.params == model.count_params()
    assert cost.relu_macs == cost.macs
    print(f"{name:20} {cost.macs:>15,} {cost.params:>12,} {cost.activation_bytes:>12,}")


@pytest.mark.parametrize(("alpha", "millions"), [(1.0, 568.74), (0.75, 325.40), (0.5, 149.50), (0.25, 41.03)])
def test_mobilenet_costs_what_its_paper_says(alpha, millions):
    # Howard et al., 2017, arXiv:1704.04861, table 6: 569, 325, 149 and 41 million mult-adds.
    network = keras.applications.MobileNet(weights=None, alpha=alpha)
    cost = count_macs(network)
    assert round(cost.macs / 1e6, 2) == millions
    assert cost.params == network.count_params()


# Multiply-adds as published, in millions, and how close the count must come. Papers round, and some leave
# out the classifier or the biases.
PUBLISHED = {
    # He et al., 2015, arXiv:1512.03385, table 1 ("FLOPs (multiply-adds)"), and section 3.3 for VGG.
    "ResNet50": (3_800, 0.02),
    "ResNet101": (7_600, 0.01),
    "ResNet152": (11_300, 0.01),
    "VGG16": (15_300, 0.02),
    "VGG19": (19_600, 0.01),
    # Sandler et al., 2018, arXiv:1801.04381, table 4.
    "MobileNetV2": (300, 0.01),
    # Howard et al., 2019, arXiv:1905.02244, table 3.
    "MobileNetV3Large": (219, 0.02),
    # Tan and Le, 2019, arXiv:1905.11946, table 2; they say FLOPS.
    "EfficientNetB0": (390, 0.01),
    "EfficientNetB1": (700, 0.02),
    "EfficientNetB2": (1_000, 0.02),
    "EfficientNetB3": (1_800, 0.04),
    "EfficientNetB4": (4_200, 0.06),
    "EfficientNetB5": (9_900, 0.04),
    # Zoph et al., 2017, arXiv:1707.07012, tables 2 and 3.
    "InceptionV3": (5_720, 0.01),
    "Xception": (8_380, 0.01),
    "InceptionResNetV2": (13_200, 0.01),
    "NASNetLarge": (23_800, 0.01),
    "NASNetMobile": (564, 0.01),
    # Liu et al., 2022, arXiv:2201.03545, table 1.
    "ConvNeXtTiny": (4_500, 0.01),
    "ConvNeXtSmall": (8_700, 0.01),
}


@pytest.mark.parametrize(
    "name",
    [name if name == "EfficientNetB0" else pytest.param(name, marks=pytest.mark.slow) for name in PUBLISHED],
)
def test_it_costs_what_its_paper_says(name):
    millions, close = PUBLISHED[name]
    found = count_macs(getattr(keras.applications, name)(weights=None)).macs / 1e6
    print(f"{name:20} {found:>10.1f} {millions:>10,} {found / millions - 1:>+8.1%}")
    assert found == pytest.approx(millions, rel=close)
