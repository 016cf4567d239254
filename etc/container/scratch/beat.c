/* A service for an image without a shell: it writes one line, and ends when it gets TERM. */
#include <signal.h>
#include <stdio.h>

int main(void)
{
	sigset_t term;
	int signal;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	puts("begins");
	fflush(stdout);
	sigwait(&term, &signal);
	puts("ends");
	return 0;
}
