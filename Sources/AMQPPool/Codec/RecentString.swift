import CRabbitMQ

/// A string that most messages of a connection repeat: the last one, as long as the same bytes come.
///
/// Making a string of more than 15 bytes costs several times what comparing it does.
struct RecentString {
    private var last = ""

    /// The text of these bytes; `nil` if they are not UTF-8.
    mutating func text(_ bytes: amqp_bytes_t) -> String? {
        if !bytes.isEqual(last) {
            guard let text = bytes.string else { return nil }
            last = text
        }
        return last
    }

    /// The text of these bytes, in which what is not UTF-8 stands as U+FFFD.
    mutating func repairedText(_ bytes: amqp_bytes_t) -> String {
        if !bytes.isEqual(last) { last = bytes.repairedString }
        return last
    }
}
