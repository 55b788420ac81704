import CRabbitMQ

/// Caches a string that most messages of a connection repeat: the last one, while the same bytes arrive.
///
/// Creating a string of more than 15 bytes costs several times as much as comparing it.
struct RecentString {
    private var last = ""

    /// The text of these bytes: see ``ShortString``.
    mutating func text(_ bytes: amqp_bytes_t) -> String {
        if bytes.isEqual(last) { return last }
        let text = bytes.text
        // The UTF-8 of an escape would be mistaken for the bytes it stands for.
        if !ShortString.hasEscapes(text) { last = text }
        return text
    }
}
