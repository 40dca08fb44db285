//! The SSM Session Manager data channel as a transport.
