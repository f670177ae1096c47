//! What only RabbitMQ has: topology of others, foreign messages, refusals.

mod server;
