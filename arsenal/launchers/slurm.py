"""The launcher under SLURM, where `srun` starts the processes."""

import os

from arsenal.launchers.launcher import Launcher
from arsenal.launchers.member import join
from arsenal.runs.folder import RunError

SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_STEP_NODELIST")
"""What srun tells a task."""


def slurm() -> Launcher:
    """One of the tasks that `srun` started: `srun python -m arsenal.train +experiment=NAME launcher=slurm`.

    SLURM's environment says who is who; `srun --kill-on-bad-exit` ends the others when one dies, and `sbatch --requeue`
    brings the job back, which resumes.
    """

    def launch(config, here):
        missing = [name for name in SLURM if name not in os.environ]
        if missing:
            raise RunError(f"`launcher=slurm` is for a task that srun started; the environment lacks {', '.join(missing)}.")
        count = int(os.environ["SLURM_NTASKS"])
        join(config, here, count, cluster_detection_method="slurm") if count > 1 else here(config)

    return Launcher(launch)
