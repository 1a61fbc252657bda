// Every Go program for Windows reads its first random bytes from ProcessPrng in bcryptprimitives.dll, and ends at once if
// the system has no such library. Wine has it from version 9 on; Debian 12 has wine 8. This is that one function, on top
// of RtlGenRandom, which wine 8 has under its export name. It is for tests only.
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size)
{
	while (size > 0) {
		ULONG n = size > 0x10000000 ? 0x10000000 : (ULONG)size;
		if (!SystemFunction036(data, n))
			ExitProcess(99); // the real one never fails, and nobody asks
		data += n;
		size -= n;
	}
	return TRUE;
}
