from vidreason.pipeline import VideoPipeline as VideoPipeline
from vidreason.pipeline import load as load

__version__: str
