//! What is wrong with a broker's URI, or doubtful. Nothing of it is quoted but a parameter's name.

/// Why a text is no URI of a broker. Holds nothing of the text but a parameter's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    #[error("a broker's URI begins with amqp:// or amqps://")]
    Scheme,
    #[error(
        "a user or a password with one of / ? # @ must be percent-encoded: / is %2F, ? is %3F, # is %23, @ is %40"
    )]
    Raw,
    #[error("a # must be written %23")]
    Fragment,
    #[error("a % that means itself must be written %25")]
    Percent,
    #[error("white space must be written %20")]
    Space,
    #[error("it is not UTF-8 with its percent-encoded bytes decoded")]
    NotUtf8,
    #[error("%00 cannot be sent to a broker")]
    Nul,
    #[error("it names no host: amqp://USER:PASSWORD@HOST:PORT/VHOST")]
    NoHost,
    #[error(
        "its host is no name and no address (commas separate whole URIs, each with its amqp:// or amqps://)"
    )]
    Host,
    #[error("an IPv6 address stands in brackets: amqp://[::1]:5672")]
    Brackets,
    #[error("its port is no number from 1 to 65535")]
    Port,
    #[error("its vhost is longer than 255 bytes")]
    LongVhost,
    #[error("its parameter {name} is not {wanted}")]
    Parameter { name: &'static str, wanted: &'static str },
    #[error("its parameter {name} stands there twice")]
    Repeated { name: &'static str },
}

/// What a URI says that is probably not meant, although it can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriDoubt {
    #[error(
        "it ends with a slash, which names the vhost with the empty name; the vhost \"/\" is used: leave the slash out or write /%2f"
    )]
    EmptyVhost,
    #[error("port 5671 is that of AMQP over TLS: write amqps://")]
    TlsPort,
    #[error("port 5672 is that of AMQP without TLS: write amqp://, or port 5671")]
    PlainPort,
    #[error(
        "port {0} is that of RabbitMQ's management, which is no AMQP port: 5672, or 5671 with amqps://"
    )]
    HttpPort(u16),
    #[error("its parameter {name} has no effect: {way_out}")]
    Parameter { name: String, way_out: &'static str },
}
