#!/usr/bin/env bash
# One recipe from nothing to its table: ./run.sh [--recipe NAME] [--stage N] [--stop-stage M] [options]; see --help.
# The data stages stand in prepare.sh, the others in egs/<recipe>/stages.sh, how stages work in local/stages.sh.
set -euo pipefail
about="one recipe from a corpus to its results"
. "$(dirname "${BASH_SOURCE[0]}")/local/main.sh"
. ./prepare.sh
main 9 "$@"
