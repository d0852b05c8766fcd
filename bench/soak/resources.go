package main

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
)

// Resources are what the program has taken.
type resources struct {
	Goroutines int   `json:"goroutines"`
	Files      int   `json:"files"` // file descriptors; 0 where the system does not tell
	Heap       int64 `json:"heap"`  // bytes in use
	Resident   int64 `json:"rss"`   // bytes; 0 where the system does not tell
}

func look() resources {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return resources{
		Goroutines: runtime.NumGoroutine(), Files: openFiles(),
		Heap: int64(mem.HeapAlloc), Resident: resident(), //nolint:gosec // It is less than the machine has.
	}
}

func openFiles() int {
	for _, dir := range []string{"/proc/self/fd", "/dev/fd"} {
		if entries, err := os.ReadDir(dir); err == nil {
			return len(entries) - 1 // that of the folder itself
		}
	}
	return 0
}

func resident() int64 {
	statm, err := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(statm)
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

const (
	// calm is for how long nothing may change before a look counts: longer than the
	// lifetime of connections that nobody uses, and their pools' rounds.
	calm = 2500 * time.Millisecond

	// unrest is how long that may take.
	unrest = time.Minute
)

// atRest waits until the program does nothing any more, or nothing more than at the
// former rest, and returns what it takes then, all garbage collected.
func atRest(former *resources) resources {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	began, since, last := time.Now(), time.Now(), look()
	for time.Since(began) < unrest {
		<-tick.C
		now := look()
		if now.Goroutines != last.Goroutines || now.Files != last.Files {
			since, last = time.Now(), now
		}
		if time.Since(since) >= calm && (former == nil || now.Goroutines <= former.Goroutines && now.Files <= former.Files) {
			break
		}
	}
	runtime.GC()
	debug.FreeOSMemory() // collects once more: what the first found in a sync.Pool
	return look()
}
