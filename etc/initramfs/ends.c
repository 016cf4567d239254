/* A service for docs/as-init.md: it says that it runs, and ends the machine, as `runit-init 0` does. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	puts("the service runs");
	fflush(stdout);
	execl("/sbin/runit-init", "runit-init", "0", (char *)0);
	perror("runit-init");
	return 1;
}
