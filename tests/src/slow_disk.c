/* Makes the disk of one process slow: preloaded, it lets every sync take longer by the nanoseconds that stand in the file
   of COEQUAL_TEST_SLOW_DISK (8 bytes, this machine's order), and follows the file also while a sync waits. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long long *delay;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("COEQUAL_TEST_SLOW_DISK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *memory = mmap(0, sizeof *delay, PROT_READ, MAP_SHARED, file, 0);
  if (memory != MAP_FAILED) delay = memory;
  close(file);
}

static void wait_for_the_disk(void) {
  const struct timespec step = {0, 1000000};
  for (long long waited = 0; delay && waited < *delay; waited += step.tv_nsec) nanosleep(&step, 0);
}

int fsync(int file) {
  wait_for_the_disk();
  return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
  wait_for_the_disk();
  return (int)syscall(SYS_fdatasync, file);
}
