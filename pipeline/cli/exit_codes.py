"""The exit codes of `pipeline`, as the README documents them."""

OK = 0
FAILED = 1  #: finished, but some genomes have no fitness, a check failed, or a machine did not do what it was asked
BAD_INPUT = 2
STOPPED = 3  #: stopped early; the same command resumes
CANNOT_CONTINUE = 4  #: no worker can go on, everything fails, or the ledger is damaged
INTERNAL_ERROR = 70  #: a defect of this program
