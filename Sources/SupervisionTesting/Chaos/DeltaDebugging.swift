/// Delta debugging (Zeller and Hildebrandt's ddmin).
package enum DeltaDebugging {
    /// Finds a smallest part of a list that still fails: halves first, then finer, until no single element can be left out.
    ///
    /// - Parameters:
    ///   - items: A list that fails.
    ///   - budget: The maximum number of lists to try; after that the smallest so far is returned.
    ///   - fails: Whether a part, in its order, fails like the whole.
    package static func minimize<Item: Sendable>(
        _ items: [Item],
        budget: Int,
        fails: ([Item]) async throws -> Bool
    ) async rethrows -> [Item] {
        var current = items
        var pieces = 2
        var left = budget
        while current.count > 1, left > 0 {
            let size = (current.count + pieces - 1) / pieces
            let starts = stride(from: 0, to: current.count, by: size)
            var smaller: [Item]?
            var isComplement = false
            for start in starts where left > 0 {
                let part = Array(current[start..<min(start + size, current.count)])
                left -= 1
                if part.count < current.count, try await fails(part) {
                    smaller = part
                    break
                }
            }
            if smaller == nil, pieces > 2 {
                for start in starts where left > 0 {
                    let rest = Array(current[..<start] + current[min(start + size, current.count)...])
                    left -= 1
                    if try await fails(rest) {
                        smaller = rest
                        isComplement = true
                        break
                    }
                }
            }
            if let smaller {
                current = smaller
                pieces = isComplement ? max(pieces - 1, 2) : 2
            } else if pieces < current.count {
                pieces = min(current.count, pieces * 2)
            } else {
                break
            }
        }
        return current
    }
}
