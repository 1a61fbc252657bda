package update_test

import "os"

var serveSignals = []os.Signal{os.Interrupt}

func killSelf() { os.Exit(137) }

// The benchmarks are for Unix.
const benchVariable = "FAIRLEAD_BENCH_JOB"

func benchMain(string) int { return 1 }
