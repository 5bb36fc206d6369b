"""The precisions of a bundle, in the order of the page."""

from export.interfaces import Quantizer
from export.quantizers.fp32 import Fp32
from export.quantizers.int4 import Int4
from export.quantizers.int8 import Int8

QUANTIZERS: dict[str, Quantizer] = {"fp32": Fp32(), "int8": Int8(), "int4": Int4()}
