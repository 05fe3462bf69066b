"""Program synthesis after ViperGPT: a language model writes a program, which looks at the video."""

from vidreason.baselines.viper.system import Viper

__all__ = ["Viper"]
