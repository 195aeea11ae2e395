"""Progress of several clips as that of one request."""

from functools import partial

from sa_ray.serving.variant.batcher import OnProgress


def joint_progress(clips: int, on_progress: OnProgress) -> list[OnProgress]:
    """Return what takes the progress of each clip; ``on_progress`` is told the mean of all.

    A clip that is made once more stays where it was until the second attempt has come as far.
    """
    done = [0.0] * clips

    def note(index: int, fraction: float) -> None:
        done[index] = max(done[index], fraction)
        on_progress(sum(done) / clips)

    return [partial(note, index) for index in range(clips)]
