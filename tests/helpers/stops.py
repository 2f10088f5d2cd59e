"""A stand-in for the forward pass of a cell, which ends the job at one image."""

from irbench.jobs import evaluate


class Stops:
    """A stand-in for ``evaluate.forward`` that is interrupted at one image; counts the others."""

    def __init__(self, monkeypatch, at=None, error=KeyboardInterrupt):
        self.count, self.at, self.error, self.forward = 0, at, error, evaluate.forward
        monkeypatch.setattr(evaluate, "forward", self)

    def __call__(self, *arguments):
        if self.count == self.at:
            raise self.error
        self.count += 1
        return self.forward(*arguments)
