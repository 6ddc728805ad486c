//! Agents that stand between the wrapper and the service, and Unix sockets.
