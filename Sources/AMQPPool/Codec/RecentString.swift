import CRabbitMQ

/// A string that most messages of a connection repeat: the last one, as long as the same bytes come.
///
/// Making a string of more than 15 bytes costs several times what comparing it does.
struct RecentString {
    private var last = ""

    /// The text of these bytes: see ``ShortString``.
    mutating func text(_ bytes: amqp_bytes_t) -> String {
        if bytes.isEqual(last) { return last }
        let text = bytes.text
        // The UTF-8 of what stands for other bytes would be taken for them.
        if !ShortString.hasEscapes(text) { last = text }
        return text
    }
}
