# Stands for a worker that fails now and then, and that ends with 0 when there is nothing left to do.
use strict;
$| = 1;
$SIG{TERM} = sub { print "stopped\n"; exit 0 };
print "working\n";
sleep 1 while 1;
