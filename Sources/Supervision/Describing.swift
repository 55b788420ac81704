/// An actor that says something about itself to whoever looks at its tree, such as the observer's page for a process.
///
///     actor Mailer: Worker, Describing {
///         func describe() -> KeyValuePairs<String, String> {
///             ["sent": "\(sent)", "waiting": "\(queue.count)"]
///         }
///     }
///
/// It is asked only when somebody looks at this very process. Like every method it runs on the actor, so it should return what
/// is known and not wait; whoever asks gives up after a second, and shows no more than 32 lines of 200 characters each. What it
/// returns is shown to people: no secrets, and nothing of anybody's messages.
public protocol Describing: Actor {
    /// What there is to know about this actor now, in the order in which it is to be shown.
    func describe() async -> KeyValuePairs<String, String>
}

/// An actor that keeps names of processes.
package protocol NameKeeping: Actor {
    /// The names under which this process is registered, as text, no more than `limit`.
    nonisolated func names(of pid: Pid, limit: Int) -> [String]
}

extension Registry: NameKeeping {
    package nonisolated func names(of pid: Pid, limit: Int) -> [String] {
        keys(of: pid).prefix(limit).map { String(describing: $0) }
    }
}
