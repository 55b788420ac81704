import ConcurrencyPrimitives

/// The URL of the page, for waiters.
final class ServedAddress: Sendable {
    private enum State {
        case notYet
        case served(String)
        case ended
    }

    private let state = Monitor(State.notYet)

    func set(_ url: String) { state.change { $0 = .served(url) } }

    func end() { state.change { $0 = .ended } }

    /// Waits for the URL; `nil` when nothing is served any more, or the waiting task is cancelled first.
    func value() async -> String? {
        let url: String?? = try? await state.wait { state -> String?? in
            switch state {
            case .notYet: nil
            case .served(let url): .some(url)
            case .ended: .some(nil)
            }
        }
        return url ?? nil
    }
}
