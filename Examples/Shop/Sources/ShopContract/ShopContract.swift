package import RPCContract

/// The products of the shop.
package enum Catalog: RPCService {
    package static let name = "shop-catalog"
    package static let product = RPCProcedure<String, Product>("product")
    package static let procedures: [any RPCDeclaration] = [product]

    /// The failure code for an unknown product.
    package static let unknownProduct: RPCFailure.Code = "unknown_product"
}

package struct Product: Codable, Sendable, Hashable {
    package var id: String
    package var name: String
    package var cents: Int

    package init(id: String, name: String, cents: Int) {
        self.id = id
        self.name = name
        self.cents = cents
    }
}

/// Accepts orders.
package enum Orders: RPCService {
    package static let name = "shop-orders"
    package static let place = RPCProcedure<NewOrder, Order>("place")
    package static let procedures: [any RPCDeclaration] = [place]

    /// The failure code for an invalid order.
    package static let invalidOrder: RPCFailure.Code = "invalid_order"
}

package struct NewOrder: Codable, Sendable, Hashable {
    /// Created by the client: an order that is sent twice counts once.
    package var id: String
    package var product: String
    package var count: Int
    package var mail: String

    package init(id: String, product: String, count: Int, mail: String) {
        self.id = id
        self.product = product
        self.count = count
        self.mail = mail
    }
}

package struct Order: Codable, Sendable, Hashable {
    package var id: String
    package var cents: Int

    package init(id: String, cents: Int) {
        self.id = id
        self.cents = cents
    }
}

/// A letter to a customer. It must be sent once, but not immediately.
package struct Mail: Codable, Sendable, Hashable {
    package static let queue = "shop.mails"

    package var order: String
    package var to: String
    package var text: String

    package init(order: String, to: String, text: String) {
        self.order = order
        self.to = to
        self.text = text
    }
}
