"""Parts that turn where a token stands into something to add, to rotate by, or to bias attention with."""

from everyformer.positions.additive import Learned, LearnedGrid, Sinusoidal, SinusoidalGrid, SinusoidalHalves
from everyformer.positions.axes import Axial, LearnedAxes
from everyformer.positions.biases import ALiBi, Buckets, HarmonicALiBi
from everyformer.positions.carried import Carried
from everyformer.positions.combined import Combined
from everyformer.positions.conv import ConvPlaces
from everyformer.positions.fourier import FourierGrid, ScaledSinusoidal
from everyformer.positions.grid import LeadingGrid, LogGrid, RelativeGrid
from everyformer.positions.heat import HeatPlaces
from everyformer.positions.manhattan import ManhattanDecay
from everyformer.positions.raster import RasterSinusoidal
from everyformer.positions.relative import Relative, RelativeWaves
from everyformer.positions.rotary import Rotary, RotaryGrid

__all__ = [
    "ALiBi", "Axial", "Buckets", "Carried", "Combined", "ConvPlaces", "FourierGrid", "HarmonicALiBi", "HeatPlaces",
    "LeadingGrid", "Learned", "LearnedAxes", "LearnedGrid", "LogGrid", "ManhattanDecay", "RasterSinusoidal",
    "Relative", "RelativeGrid", "RelativeWaves", "Rotary", "RotaryGrid", "ScaledSinusoidal", "Sinusoidal",
    "SinusoidalGrid", "SinusoidalHalves",
]  # fmt: skip
