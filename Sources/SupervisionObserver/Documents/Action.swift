/// An action requested by a viewer.
package struct ActionRequest: Codable, Sendable, Equatable {
    package enum Action: String, Codable, Sendable, CaseIterable {
        case kill
        case exit
        case restart
        case terminate
        case pause
        case resume
        case killMatrix
    }

    package var action: Action
    package var tree: Int
    /// The position in the tree; not needed for a kill matrix.
    package var key: String?
    /// The incarnation that the viewer saw: if there is another one by now, nothing is done.
    package var pid: String?

    package init(action: Action, tree: Int, key: String? = nil, pid: String? = nil) {
        self.action = action
        self.tree = tree
        self.key = key
        self.pid = pid
    }
}

package struct ActionResult: Codable, Sendable, Equatable {
    package var done: String
}

/// Why a request was refused.
package struct Refusal: Codable, Sendable, Equatable, Error {
    package var error: String

    package init(_ error: String) {
        self.error = error
    }
}
