/// Lists the children of a supervisor in start order: ``Child`` values and nested ``Supervisor``s, with `if` and `for`.
@resultBuilder
public enum ChildrenBuilder {
    /// A child.
    public static func buildExpression(_ child: Child) -> [Child] { [child] }
    /// A nested supervisor. Only its description is used, for a new instance at every start.
    public static func buildExpression(_ supervisor: Supervisor) -> [Child] {
        [supervisor.asChild()]
    }
    /// An array of children.
    public static func buildExpression(_ children: [Child]) -> [Child] { children }
    /// All children, in order.
    public static func buildBlock(_ children: [Child]...) -> [Child] { children.flatMap { $0 } }
    /// An `if` without `else`.
    public static func buildOptional(_ children: [Child]?) -> [Child] { children ?? [] }
    /// The first branch.
    public static func buildEither(first children: [Child]) -> [Child] { children }
    /// The second branch.
    public static func buildEither(second children: [Child]) -> [Child] { children }
    /// A `for` loop.
    public static func buildArray(_ children: [[Child]]) -> [Child] { children.flatMap { $0 } }
}
