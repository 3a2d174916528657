//! The closed sets of values that labels have: why, and what became of something.

/// A label's closed set of values: an enum, one counter per variant.
pub trait Label: Copy + 'static {
    const ALL: &'static [Self];
    fn name(self) -> &'static str;
    fn index(self) -> usize;
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),* }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),*];
            fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    )*};
}

labels! {
    /// What became of a delivery. Exactly one per delivery; one that was held counts when settled.
    DeliveryOutcome {
        Published = "published",
        Filled = "filled",
        Duplicate = "duplicate",
        Conflict = "conflict",
        Old = "old",
        Invalid = "invalid",
        MarkedInvalid = "marked_invalid",
    }

    /// Why a message was dead-lettered.
    DeadLetterReason {
        NotUtf8 = "not_utf8",
        NotJson = "not_json",
        WrongShape = "wrong_shape",
        BadHeight = "bad_height",
        TooLarge = "too_large",
        /// A `content_encoding` that is not known.
        UnknownEncoding = "unknown_encoding",
        /// Packed, but not as its `content_encoding` says, or not whole.
        CorruptEncoding = "corrupt_encoding",
        /// Sections of AMQP 1.0 that hold no bytes and no text.
        AmqpValue = "amqp_value",
        /// A height too far above the tip that nothing confirmed.
        ImplausibleHeight = "implausible_height",
        /// Other content for a height that is known.
        Conflict = "conflict",
    }

    /// What the decoder found wrong with a message body.
    DecodeErrorKind {
        NotUtf8 = "not_utf8",
        NotJson = "not_json",
        WrongShape = "wrong_shape",
        BadHeight = "bad_height",
        TooLarge = "too_large",
        /// A `content_encoding` that is not known.
        UnknownEncoding = "unknown_encoding",
        /// Packed, but not as its `content_encoding` says, or not whole.
        CorruptEncoding = "corrupt_encoding",
        /// Sections of AMQP 1.0 that hold no bytes and no text.
        AmqpValue = "amqp_value",
    }

    /// Why a handshake or a request for a stream was refused.
    HandshakeRefusal {
        BadRequest = "bad_request",
        MethodNotAllowed = "method_not_allowed",
        NoUpgrade = "no_upgrade",
        /// From a web page that is not among `server.allowed_origins`.
        Origin = "origin",
        /// Without a credential, or with one that lets nobody in.
        NotAuthorized = "not_authorized",
        /// More often than `server.handshakes_per_second`.
        Rate = "rate",
        /// A request's head or URL; whatever it asked for.
        TooLong = "too_long",
        /// A request's head that began and did not come to its end in time.
        TooSlow = "slow",
        Address = "address",
        Full = "full",
        Warming = "warming",
        Draining = "draining",
        /// No TLS came about where it is spoken.
        Tls = "tls",
    }

    /// How a session ended.
    Disconnect {
        /// The client closed, with or without a close frame.
        Client = "client",
        /// The client closed with 1009: a message was above its own limit.
        ClientLimit = "client_limit",
        /// It had all that it asked for: `until_height`, `limit`.
        Done = "done",
        /// Its start was not to be had.
        NotAvailable = "not_available",
        /// Its cursor fell off the history's old end, and there is nothing to go on from.
        Slow = "slow",
        /// It was inside a block that came back as another.
        Changed = "changed",
        /// Its write made no progress for `server.write_stall_timeout`.
        Stalled = "stalled",
        NoPong = "no_pong",
        Protocol = "protocol",
        TooBig = "too_big",
        Drained = "drained",
        /// Another chain took the place of the one it followed.
        Reset = "reset",
        /// The credential that let it in expired or was taken out.
        NotAuthorized = "not_authorized",
        /// The connection broke.
        Lost = "lost",
        Error = "error",
    }

    /// What became of reading the TLS certificate again.
    TlsReload {
        Loaded = "loaded",
        /// The old one goes on.
        Failed = "failed",
    }

    /// What became of files of credentials that were read again.
    AuthReload {
        Loaded = "loaded",
        /// The old ones stayed in force.
        Failed = "failed",
    }

    /// How a start at a position ended.
    ResumeOutcome {
        /// From memory.
        Served = "served",
        /// From the broker.
        Deep = "deep",
        NotAvailable = "not_available",
    }
}
