"""Stage 2's data: instructions about videos with responses (section 3.4.2), mixed by weight."""

from data_modules.training_data import TrainingDataModule


class InstructionDataModule(TrainingDataModule):
    """Any mixture of corpora: questions, explanations, predictions, captions."""
