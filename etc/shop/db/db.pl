# Stands for a database: it needs a moment, then it writes a newline to descriptor 3, which means that it is ready.
use strict;
$| = 1;
$SIG{TERM} = sub { print "stopped\n"; exit 0 };
select undef, undef, undef, 0.5;
open my $ready, '>&=', 3 or die "no descriptor 3: $!\n";
print "ready\n";
print $ready "\n";
close $ready;
sleep 1 while 1;
