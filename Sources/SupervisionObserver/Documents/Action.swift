/// An action requested by a viewer.
struct ActionRequest: Codable, Sendable, Equatable {
    enum Action: String, Codable, Sendable, CaseIterable {
        case kill
        case exit
        case restart
        case terminate
        case pause
        case resume
        case killMatrix
    }

    var action: Action
    var tree: Int
    /// The position in the tree; not needed for a kill matrix.
    var key: String?
    /// The incarnation that the viewer saw: if there is another one by now, nothing is done.
    var pid: String?

    init(action: Action, tree: Int, key: String? = nil, pid: String? = nil) {
        self.action = action
        self.tree = tree
        self.key = key
        self.pid = pid
    }
}

struct ActionResult: Codable, Sendable, Equatable {
    var done: String
}

/// Why a request was refused.
struct Refusal: Codable, Sendable, Equatable, Error {
    var error: String

    init(_ error: String) {
        self.error = error
    }
}
