// Package killpoint runs a program and stops it at a chosen point: at its N-th system call that changes a file, the
// whole tree of processes is killed, or that one call fails. Tests run a program once to count its calls, then once
// more for every N, and look at what is left.
//
// Calls are counted over all threads and all processes that the program starts, from 1, in the order in which they
// reach the kernel. A program that is not sequential counts in another order each time; what holds for every order is
// that killing at N leaves the complete effects of exactly N-1 counted calls: [Run] waits for those that other threads
// are still making, and lets no further one begin.
//
// # What is seen
//
// System calls by which a file, a folder, a name or an attribute changes, and those that make a change durable, if they
// touch something below one of the folders in [Config.Under]. An open counts if it can create or truncate. Symbolic
// links and descriptors are followed. Calls that fail on their own (a mkdir of what exists) count like the others.
//
// Not seen: changes through memory mappings, and of file systems by other means (mount, ioctl other than FICLONE). io_uring
// and the system calls of other ABIs (32 bit) answer ENOSYS, so nothing goes around the count. A program that changes its
// root folder is not understood. A program stopped by SIGSTOP or a terminal goes on at once.
//
// Killing is what kill -9 does: all that was written before is in the page cache and survives. Killpoint shows nothing
// about a machine that loses power.
//
// Linux only, on amd64 and arm64, from version 5.3; elsewhere the package is empty.
package killpoint
