//! Fast tests: no machine, no cluster.

mod ec2; // the EC2 adapter against a loopback server
