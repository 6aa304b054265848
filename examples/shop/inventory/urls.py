"""Routes of the inventory service."""

from django.urls import path

from inventory import views

urlpatterns = [
    path("stock/", views.stock),
    path("stock/<str:sku>/", views.stock_of),
    path("reserve/", views.reserve),
    path("healthz", views.healthz),
]
