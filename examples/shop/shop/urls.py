"""Routes. Their patterns are what `http.route` says."""

from django.urls import path

from shop import checkout, ops, views

urlpatterns = [
    path("products/", views.product_list, name="product-list"),
    path("products/<int:pk>/", views.product_detail, name="product-detail"),
    path("cart/", views.cart, name="cart"),
    path("cart/add/", views.add_to_cart, name="cart-add"),
    path("checkout/", checkout.begin, name="checkout-begin"),
    path("checkout/shipping/", checkout.shipping, name="checkout-shipping"),
    path("checkout/payment/", checkout.payment, name="checkout-payment"),
    path("checkout/purchase/", checkout.purchase, name="checkout-purchase"),
    path("orders/<uuid:order_id>/", views.order, name="order"),
    path("ops/faults", ops.faults, name="ops-faults"),
    path("metrics", ops.metrics, name="metrics"),
    path("rum", ops.rum, name="rum"),
    path("healthz", ops.healthz, name="healthz"),
]
