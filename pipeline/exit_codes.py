"""The exit codes of `pipeline`, as the README documents them."""

ALL_COMPLETED = 0
SOME_FAILED = 1  #: finished, but some genomes have no fitness
BAD_INPUT = 2
STOPPED = 3  #: stopped early; the same command resumes
STANDSTILL = 4  #: the farm cannot go on
DEFECT = 70  #: of this program
