# Stands for an application. It reports that it is ready as the database does.
use strict;
$| = 1;
$SIG{TERM} = sub { print "stopped\n"; exit 0 };
open my $ready, '>&=', 3 or die "no descriptor 3: $!\n";
print "serving\n";
print $ready "\n";
close $ready;
sleep 1 while 1;
