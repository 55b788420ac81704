import ArgumentParser

/// The form of arguments and results.
enum Form: String, EnumerableFlag {
    case json, text, raw

    static func help(for value: Form) -> ArgumentHelp? {
        switch value {
        case .json: "Arguments and results are JSON."
        case .text: "They are plain text."
        case .raw: "They are bytes of any content type, sent and printed unchanged."
        }
    }
}
