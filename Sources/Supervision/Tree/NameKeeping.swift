/// An actor that keeps names of processes.
package protocol NameKeeping: Actor {
    /// The names under which this process is registered, as text, no more than `limit`.
    nonisolated func names(of pid: Pid, limit: Int) -> [String]
}
