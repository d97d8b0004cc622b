/* Preloaded, keeps MADV_WILLNEED from the kernel and says that it worked: PulseAudio without its advice. */

#define _GNU_SOURCE
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int madvise(void *address, size_t length, int advice) {
    if (advice == MADV_WILLNEED) return 0;
    return (int)syscall(SYS_madvise, address, length, advice);
}

int posix_madvise(void *address, size_t length, int advice) {
    (void)address, (void)length, (void)advice; /* advice never changes what a program computes */
    return 0;
}
